"""The commands of docs/moving-state.md, with real Terraform: what was applied before is not
created again.
"""

import base64
import contextlib
import http.server
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clone import Clone
from support.configurations import SHOP
from support.environment import shell_environment
from support.tools import ROOT, require

STAGE = """
[stages.NAME]
kind = "terraform"
paths = ["NAME/**"]
root = "NAME"
backend = { bucket = "cipipe-{account_id}-{region}", key = "NAME/dev.tfstate" }
"""
BUCKET, REGION = "cipipe-111111111111-eu-central-1", "eu-central-1"
# Where the sandbox's S3 is no host of AWS, a backend needs this as well.
PATH_STYLE = "-backend-config=use_path_style=true"

RESOURCE = 'resource "terraform_data" "kept" {}\noutput "id" { value = terraform_data.kept.id }\n'
S3 = 'terraform {\n  backend "s3" {}\n}\n'
HTTP = 'terraform {\n  backend "http" {}\n}\n'
OLD_KEY = f"""\
terraform {{
  backend "s3" {{
    bucket         = "{BUCKET}"
    key            = "old.tfstate"
    region         = "{REGION}"
    use_path_style = true
  }}
}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    require("terraform", "moving states")
    folder = tmp_path_factory.mktemp("moving") / "shop"
    folder.mkdir()
    made = Clone(folder, {**shell_environment(), "CIPIPE_SANDBOX_DOCKER": "off"})
    stages = "".join(STAGE.replace("NAME", name) for name in ("local", "elsewhere", "gitlab"))
    (folder / "cipipe.toml").write_text(SHOP + stages)
    (folder / ".gitignore").write_text(".cipipe/\n.terraform/\n*.tfstate*\n")
    made.git("init", "--quiet", "--initial-branch", "main")
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    try:
        yield made
    finally:
        made.cipipe("sandbox", "down")


def documented(key: str) -> list[str]:
    """The command of the page, for this bucket and key."""
    page = (ROOT / "docs/moving-state.md").read_text()
    (line,) = re.findall(r"^\$ (terraform init .*)$", page, re.MULTILINE)
    for name, value in {"BUCKET": BUCKET, "KEY": key, "REGION": REGION}.items():
        line = line.replace(f"={name}", f"={value}")
    return [*shlex.split(line), PATH_STYLE, "-force-copy"]


def terraform(shop: Clone, folder: Path, *argv: str, **more: str) -> str:
    sandbox = shop.cipipe("sandbox", "env", "--format", "json").document["environment"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**shop.env, **sandbox, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def applied(shop: Clone, root: Path, backend: str, **env: str) -> str:
    """The id of the resource, which was created by hand."""
    root.mkdir()
    (root / "main.tf").write_text(RESOURCE + backend)
    terraform(shop, root, "terraform", "init", "-input=false", **env)
    terraform(shop, root, "terraform", "apply", "-auto-approve", "-input=false", **env)
    shown: dict[str, Any] = json.loads(terraform(shop, root, "terraform", "output", "-json", **env))
    return str(shown["id"]["value"])


@contextlib.contextmanager
def gitlab() -> Iterator[dict[str, str]]:
    """A state over HTTP that wants a password, as GitLab's does; the variables for it."""
    states: dict[str, bytes] = {}
    password = base64.b64encode(b"somebody:personal").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(states.get("state"))

        def do_POST(self) -> None:
            states["state"] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(b"")

        def answer(self, body: bytes | None) -> None:
            if self.headers["Authorization"] != f"Basic {password}":
                self.send_response(401)
            else:
                self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "TF_HTTP_ADDRESS": f"http://127.0.0.1:{server.server_port}/state",
                "TF_HTTP_USERNAME": "somebody",
                "TF_HTTP_PASSWORD": "personal",
            }
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("name", "backend"), [("local", ""), ("elsewhere", OLD_KEY)])
def test_a_state_is_moved(shop: Clone, name: str, backend: str) -> None:
    moved(shop, name, backend)


def test_a_state_in_gitlab_is_moved(shop: Clone) -> None:
    with gitlab() as env:
        moved(shop, "gitlab", HTTP, **env)


def moved(shop: Clone, name: str, backend: str, **env: str) -> None:
    root = shop.folder / name
    before = applied(shop, root, backend, **env)
    (root / "main.tf").write_text(RESOURCE + S3)
    terraform(shop, root, *documented(f"{name}/dev.tfstate"), **env)

    shop.git("add", "--all")
    shop.git("commit", "--quiet", "-m", f"Move the state of {name}")
    done = shop.run(name)
    assert done.status == 0, done.text
    assert done.results()[name] == "done"
    (made,) = [one["made"] for one in done.document["stages"] if one["name"] == name]
    assert made == "no resource changes"
    assert terraform(shop, root, "terraform", "output", "-raw", "id") == before
