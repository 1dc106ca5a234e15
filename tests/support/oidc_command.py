"""`cipipe oidc` in this process, with claims, tokens and policies to give to it."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cipipe import cli

ACCOUNT = "arn:aws:iam::111111111111:oidc-provider"
LAB = f"{ACCOUNT}/gitlab.com"
HUB = f"{ACCOUNT}/token.actions.githubusercontent.com"
GITHUB = "https://token.actions.githubusercontent.com"
SIGNATURE = "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


class OidcCommand:
    """`cipipe` in this process; the environment is the test's."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.status = 0
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> "OidcCommand":
        self._capsys.readouterr()
        self.status = cli.main(["oidc", *arguments])
        self.out, self.err = self._capsys.readouterr()
        return self

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def ids(self) -> list[str]:
        return [finding["id"] for finding in self.document["findings"]]


def gitlab(ref: str = "main", **changes: Any) -> dict[str, Any]:
    project = changes.get("project_path", "acme/dbt")
    return {
        "iss": "https://gitlab.com",
        "aud": "https://gitlab.com",
        "sub": f"project_path:{project}:ref_type:{changes.get('ref_type', 'branch')}:ref:{ref}",
        "project_path": "acme/dbt",
        "project_id": "20",
        "namespace_id": "72",
        "ref_protected": "true",
        "pipeline_source": "push",
        **changes,
    }


def github(
    subject: str = "ref:refs/heads/main", repository: str = "acme/dbt", **changes: Any
) -> dict[str, Any]:
    return {
        "iss": GITHUB,
        "aud": "sts.amazonaws.com",
        "sub": f"repo:{repository}:{subject}",
        "repository": repository,
        "repository_id": "456",
        "repository_owner_id": "123",
        **changes,
    }


def jwt(claims: dict[str, Any], **header: Any) -> str:
    now = int(time.time())
    parts = (
        {"alg": "RS256", **header},
        {"exp": now + 300, "nbf": now - 5, "iat": now - 5, **claims},
    )
    coded = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    ]
    return ".".join([*coded, SIGNATURE])


def written(name: str, content: Any) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return name


def policy(
    subject: str = "project_path:acme/dbt:ref_type:branch:ref:main", provider: str = LAB
) -> dict[str, Any]:
    issuer = provider.partition("oidc-provider/")[2]
    return {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{issuer}:sub": subject}},
        },
    }
