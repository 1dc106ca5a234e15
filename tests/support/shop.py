"""A project whose infrastructure is deployed, with DAG files to deploy, and the services that they
go to.

The services are a moto server in threads: moto inside this process is not safe with calls from
several threads.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cipipe.cli import main
from cipipe.fingerprint import effective
from cipipe.ledger import Ledger
from cipipe.model import Output, Record, State
from cipipe.pace import Pace
from cipipe.pipeline import project
from cipipe.pipeline.planning import snapshot
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from support.configurations import head
from support.environment import shell_environment
from support.git import ENV, Repo

ACCOUNT, REGION = "123456789012", "eu-central-1"
LEDGER, BUCKET = f"cipipe-{ACCOUNT}-{REGION}", "dags-bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
CONFIG = (
    head(ACCOUNT)
    + """\
deploy_from = { branches = ["main"] }

[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform"
backend = { bucket = "b", key = "k" }

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = { output = "dags_bucket" }
needs = ["iac"]
"""
)
OUTPUTS = {
    "dags_bucket": Output(value=BUCKET),
    "cluster": Output(value="prod"),
    "token": Output(value="hunter22", sensitive=True),
}
DAG = "from airflow import DAG\n# {}\nCLUSTER = 'local'  # cipipe: cluster\n"


class Shop:
    """The project, its account, and `cipipe` called in it. What it said is in `out` and `err`."""

    def __init__(self, root: Path, url: str, config: str = CONFIG) -> None:
        self.url = url
        self.aws = Aws(Endpoint(REGION, url), Credentials("testing", "testing"))
        self.repo = Repo(root)
        self.repo.commit(
            {
                "cipipe.toml": config,
                ".gitignore": ".cipipe/\n",
                "terraform/main.tf": "",
                "dags/a.py": DAG.format("a 1"),
                "dags/helper.py": "# helper 1\n",
            }
        )
        http.request("POST", f"{url}/moto-api/reset")
        for name in (LEDGER, BUCKET):
            self.aws.call(
                "s3",
                "create_bucket",
                Bucket=name,
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )
            self.aws.call(
                "s3",
                "put_bucket_versioning",
                Bucket=name,
                VersioningConfiguration={"Status": "Enabled"},
            )
        self.ledger = Ledger(self.aws.bucket(LEDGER), "ledger/shop/dev/")
        self.apply(**OUTPUTS)

    @property
    def env(self) -> dict[str, str]:
        clean = shell_environment(ENV)
        nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return clean | KEYS | nowhere | {"AWS_ENDPOINT_URL": self.url}

    def apply(self, **outputs: Output) -> None:
        """Have the infrastructure deployed, with these outputs."""
        candidate = snapshot.read_snapshot(project.load(self.repo.root, self.env)).candidates["iac"]
        held = self.ledger.read(["iac"])["iac"]
        same = effective(candidate.fingerprint, {})
        record = Record(
            schema=1,
            stage="iac",
            fingerprint=candidate.fingerprint,
            effective=same,
            state=State.DEPLOYED,
            commit=self.head,
            ref="main",
            provider="local",
            sequence=None,
            pipeline_url=None,
            started_at="2026-01-02T03:04:05+00:00",
            finished_at="2026-01-02T03:04:05+00:00",
            data={},
        )
        self.ledger.write(record, held)
        self.ledger.write_outputs("iac", outputs)

    @property
    def head(self) -> str:
        return self.repo.git("rev-parse", "HEAD")

    def commit(self, files: dict[str, str | bytes | None]) -> str:
        self.repo.commit(files)
        return self.head

    def record(self, stage: str = "dags") -> Record:
        held = self.ledger.read([stage])[stage]
        assert held is not None
        return held.record

    def bodies(self) -> dict[str, bytes]:
        bucket = self.aws.bucket(BUCKET)
        return {key: stored.body for key in bucket.keys("") if (stored := bucket.get(key))}

    def writes(self) -> int:
        """How many versions and delete markers there are in both buckets, without those of notes
        about failed attempts.
        """
        return sum(
            1
            for name in (LEDGER, BUCKET)
            for version in self.aws.bucket(name).versions("")
            if "/failures/" not in version.key
        )


class Cli:
    """`cipipe` in this process."""

    def __init__(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._shop = shop
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.out = self.err = ""
        self.pace = Pace()

    def __call__(self, *arguments: str) -> int:
        self._monkeypatch.chdir(self._shop.repo.root)
        self._monkeypatch.setattr(os, "environ", self._shop.env)
        self._capsys.readouterr()
        status = main(list(arguments), pace=self.pace)
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *arguments: str) -> dict[str, Any]:
        assert self(*arguments, "--format", "json") == 0, self.out + self.err
        return dict(json.loads(self.out))


def due(cipipe: Cli) -> str:
    """Why the `dags` stage is due, by a plan; `unchanged` if it is not."""
    stages = cipipe.json("plan")["stages"]
    (reason,) = [stage["reason"] for stage in stages if stage["name"] == "dags"]
    return str(reason)
