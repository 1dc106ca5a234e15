"""Paths and small helpers that the modules of this folder share."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".cipipe"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """This machine cannot provide something; the message says what, and how to get it."""


def search_path() -> str:
    """PATH with the folders of system tools, which an ordinary user's PATH often leaves out."""
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"


def replace(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def say(text: str) -> None:
    sys.stderr.write(f"==> {text}\n")
    sys.stderr.flush()
