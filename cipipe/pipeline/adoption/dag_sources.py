"""Where the DAGs are: a folder, or single files among others."""

import re

import msgspec

from cipipe.pipeline.adoption.files import Files, folder

_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+airflow\b", re.MULTILINE)
_DAG = re.compile(rb"\bDAG[ \t]*\(|^[ \t]*@dag\b", re.MULTILINE)


class FoundDags(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    # Files with DAGs, by their paths in the repository.
    files: tuple[str, ...]
    # What MWAA installs.
    requirements: str | None = None
    plugins: str | None = None
    # A script that MWAA runs when it starts, which cipipe does not upload.
    startup: str | None = None


def dags(files: Files) -> FoundDags | None:
    """The folder with the most DAGs. None where no file imports Airflow and builds one."""
    folders: dict[str, list[str]] = {}
    for path, body in files.items():
        if path.endswith(".py") and not _is_test(path) and _builds_dag(body):
            folders.setdefault(_source(path), []).append(path)
    if not folders:
        return None
    source = max(folders, key=lambda name: (len(folders[name]), name != "."))
    wanted = "requirements.txt" if source == "." else f"{source}/requirements.txt"
    return FoundDags(
        source=source,
        files=tuple(folders[source]),
        requirements=wanted if wanted in files and source != "." else None,
        plugins=_plugins(files, source),
        startup=next((path for path in files if path.rpartition("/")[2] == "startup.sh"), None),
    )


def _plugins(files: Files, source: str) -> str | None:
    """The folder `plugins` beside the DAGs, if a file in it uses Airflow."""
    above = "" if folder(source) == "." else f"{folder(source)}/"
    wanted = f"{above}plugins"
    used = any(
        path.startswith(f"{wanted}/") and path.endswith(".py") and _IMPORT.search(body)
        for path, body in files.items()
    )
    return wanted if used and source not in {wanted, "."} else None


def _builds_dag(body: bytes) -> bool:
    return bool(_IMPORT.search(body) and _DAG.search(body))


def _is_test(path: str) -> bool:
    parts = path.split("/")
    return "tests" in parts[:-1] or parts[-1].startswith("test_") or parts[-1] == "conftest.py"


def _source(path: str) -> str:
    """The folder `dags` that a file is in, else the file's own."""
    parts = path.split("/")[:-1]
    if "dags" in parts:
        return "/".join(parts[: parts.index("dags") + 1])
    return folder(path)
