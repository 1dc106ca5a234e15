"""A project with one image of a few kilobytes, in two environments of a sandbox.

The base image has a shell and nothing else, because no image can be pulled in CI.
"""

import io
import json
import re
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import boto3

from cipipe.sandbox.client import Sandbox
from cipipe.tools.registry.client import Registry
from cipipe.tools.registry.copy import attached_tag
from support.clone import Clone, Outcome
from support.environment import shell_environment

BASE = "cipipe-test-base:1"
# The sandbox's registry takes any login.
AUTH = {"username": "AWS", "password": "x"}

LEDGER = "cipipe-{account}-eu-central-1"
ACCOUNTS = {"dev": "111111111111", "live": "222222222222"}

HEAD = """
[project]
name = "shop"
default_environment = "dev"

[oidc.gitlab]
audience = "https://gitlab.com"
token_variable = "AWS_ID_TOKEN"
project = "group/shop"

[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
verify_role_arn = "arn:aws:iam::111111111111:role/shop-verify"
deploy_from = { branches = ["main"] }

[environments.live]
account_id = "222222222222"
region = "eu-central-1"
role_arn = "arn:aws:iam::222222222222:role/shop-deploy"
deploy_from = { branches = ["main"] }
after = "dev"
"""

_IMAGE = """
[stages.image]
kind = "image"
paths = ["app/**"]
context = "app"
repository = "{registry}/shop-{{environment}}"
smoke = ["/bin/sh", "-c", "test -f /app/run.sh"]
"""

DOCKERFILE = f"""\
FROM {BASE}
COPY slow.txt /slow.txt
RUN echo installing && echo installed > /installed
COPY . /app/
"""


def shell_image() -> bytes:
    """A root file system with /bin/sh, /bin/sleep and the libraries that they need, as a tar."""
    programs = ["/bin/sh", "/bin/sleep"]
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = set(re.findall(r"(?:=> |\t)(/\S+)", listed))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", dereference=True) as tar:
        for file in [*programs, *sorted(libraries)]:
            tar.add(file)
    return made.getvalue()


def import_base(host: str) -> None:
    """Give the daemon at DOCKER_HOST the base image."""
    client = daemon_at(host)
    repository, _, tag = BASE.partition(":")
    client.api.import_image_from_data(shell_image(), repository=repository, tag=tag)
    client.close()


def daemon_at(host: str) -> Any:
    import docker

    return docker.DockerClient(base_url=host, version="1.41")


@dataclass
class ImageProject(Clone):
    """The project, with `cipipe` in it."""

    # Settings of the image stage beyond the usual ones.
    settings: str = ""
    registry: str = ""
    count: int = field(default=0)

    @classmethod
    def create(cls, folder: Path, **env: str) -> Self:
        """A repository with one commit, and its sandbox. With DOCKER_HOST in
        `env`, that daemon has the base image already.
        """
        folder.mkdir()
        made = cls(folder, {**shell_environment(), **env})
        made.git("init", "--quiet", "--initial-branch", "main")
        (folder / ".gitignore").write_text(".cipipe/\n")
        (folder / "app").mkdir()
        (folder / "app/Dockerfile").write_text(DOCKERFILE)
        (folder / "app/slow.txt").write_text("slow\n")
        (folder / "app/run.sh").write_text("echo hello\n")
        made.configure()
        up = made.cipipe("sandbox", "up", "--env", "dev")
        assert up.status == 0, up.text
        made.registry = str(made.sandbox().state.registry)
        made.configure()
        for environment, account in ACCOUNTS.items():
            made.client("ecr", account).create_repository(
                repositoryName=f"shop-{environment}", imageTagMutability="IMMUTABLE"
            )
        if "DOCKER_HOST" not in env:
            import_base(str(made.sandbox().state.docker_host))
        return made

    def configure(self, settings: str = "") -> None:
        """Write and commit cipipe.toml, with these settings of the image stage."""
        image = _IMAGE.format(registry=self.registry or "registry.test")
        (self.folder / "cipipe.toml").write_text(HEAD + image + settings)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Configure")

    def write(self, path: str, text: str) -> str:
        """Replace a file, and commit that."""
        (self.folder / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"Write {path}")
        return self.git("rev-parse", "HEAD")

    def change(self) -> None:
        """A commit that makes the image due."""
        self.count += 1
        self.write("app/run.sh", f"echo {self.count}\n")

    def run_in(self, environment: str, *arguments: str, **env: str) -> Outcome:
        return self.cipipe(
            "run", "--sandbox", "--env", environment, "--format", "json", *arguments, **env
        )

    def client(self, service: str, account: str = ACCOUNTS["dev"]) -> Any:
        """A boto3 client of an account's administrator."""
        sandbox: Sandbox = self.sandbox()
        keys = sandbox.admin_of(account)
        session: Any = boto3.Session(
            keys.access_key_id, keys.secret_access_key, region_name="eu-central-1"
        )
        return session.client(service, endpoint_url=sandbox.state.aws_url)

    def images(self, environment: str = "dev") -> dict[str, list[str]]:
        """The digests in the environment's repository, with their tags."""
        answer = self.client("ecr", ACCOUNTS[environment]).describe_images(
            repositoryName=f"shop-{environment}"
        )
        return {
            entry["imageDigest"]: entry.get("imageTags", []) for entry in answer["imageDetails"]
        }

    def tags(self, environment: str = "dev") -> list[str]:
        return [tag for tags in self.images(environment).values() for tag in tags]

    def attached(self, digest: str, environment: str = "dev") -> list[bytes]:
        """The documents that are attached to an image."""
        repository = Registry(
            repository=f"{self.registry}/shop-{environment}",
            url=f"http://{self.registry}",
            username=AUTH["username"],
            password=AUTH["password"],
        )
        index = repository.manifest(attached_tag(digest))
        found = []
        for entry in index.document()["manifests"] if index else []:
            artifact = repository.manifest(entry["digest"])
            assert artifact is not None
            (layer,) = artifact.document()["layers"]
            with repository.blob(layer["digest"]) as pieces:
                found.append(b"".join(pieces))
        return found

    def replace_record(self, data: dict[str, Any]) -> None:
        """Change `data` of the image's record, as nobody but a test does."""
        record = {**self.record(), "data": data}
        self.client("s3").put_object(
            Bucket=LEDGER.format(account=ACCOUNTS["dev"]),
            Key="ledger/shop/dev/image.json",
            Body=json.dumps(record).encode(),
        )

    def record(self, environment: str = "dev", stage: str = "image") -> dict[str, Any]:
        """The stage's record in the ledger."""
        account = ACCOUNTS[environment]
        body = self.client("s3", account).get_object(
            Bucket=LEDGER.format(account=account), Key=f"ledger/shop/{environment}/{stage}.json"
        )["Body"]
        return dict(json.loads(body.read()))

    def daemon(self) -> Any:
        """The Docker daemon: the sandbox's, or that of DOCKER_HOST."""
        return daemon_at(self.env.get("DOCKER_HOST") or str(self.sandbox().state.docker_host))

    def empty_daemon(self) -> None:
        """Remove all that was built from the daemon, as if it had just started."""
        client = self.daemon()
        # The cache first: it refers to layers of the images.
        client.api._post(client.api._url("/build/prune?all=true"))
        for image in client.images.list():
            if "io.cipipe.fingerprint" in image.labels:
                client.images.remove(image.id, force=True)
        client.api._post(client.api._url("/build/prune?all=true"))
        client.close()
