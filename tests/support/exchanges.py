"""Exchanges of tokens in a sandbox with roles in two accounts."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cipipe.oidc.exchange import ExchangeOptions, exchange
from cipipe.oidc.session import SessionRequest
from cipipe.redact import Redactor
from cipipe.sandbox import Sandbox, SandboxOptions, attached
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials

ACCOUNT = "111111111111"
REGION = "eu-central-1"
AUDIENCES = {"gitlab": "https://gitlab.com", "github": "sts.amazonaws.com"}
HOSTS = {"gitlab": "gitlab.com", "github": "token.actions.githubusercontent.com"}
SUBJECTS = {
    "gitlab": "project_path:group/project:ref_type:branch:ref:main",
    "github": "repo:group/project:ref:refs/heads/main",
}


@contextmanager
def sandbox_with_two_accounts(folder: Path) -> Iterator[Sandbox]:
    """Each account has a role for each provider, and one whose sessions may last two hours."""
    with attached(
        SandboxOptions(directory=folder, account_id=ACCOUNT, docker=False),
        env=dict(os.environ),
        say=print,
    ) as running:
        for account in (ACCOUNT, "222222222222"):
            admin = Aws(running.endpoint(REGION), running.admin_of(account))
            for flavour, host in HOSTS.items():
                provider = f"arn:aws:iam::{account}:oidc-provider/{host}"
                admin.call(
                    "iam",
                    "create_open_id_connect_provider",
                    Url=f"https://{host}",
                    ClientIDList=[AUDIENCES[flavour], "also"],
                    ThumbprintList=[],
                )
                for name, longest in ((f"{flavour}-deploy", 3600), (f"{flavour}-long", 7200)):
                    admin.call(
                        "iam",
                        "create_role",
                        RoleName=name,
                        MaxSessionDuration=longest,
                        AssumeRolePolicyDocument=json.dumps(policy(provider, flavour)),
                    )
        yield running


def policy(provider: str, flavour: str) -> dict[str, Any]:
    condition = {
        f"{HOSTS[flavour]}:sub": SUBJECTS[flavour],
        f"{HOSTS[flavour]}:aud": AUDIENCES[flavour],
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": condition},
            }
        ],
    }


def mint(sandbox: Sandbox, flavour: str = "gitlab", **changes: Any) -> str:
    asked = {
        "project": "group/project",
        "ref": "main",
        "ref_type": "branch",
        "audience": AUDIENCES[flavour],
    }
    return sandbox.mint(flavour=flavour, **{**asked, **changes})


def run(
    sandbox: Sandbox, token: str, flavour: str = "gitlab", *, precheck: bool = True, **changes: Any
) -> Credentials:
    account, role = changes.pop("account", ACCOUNT), changes.pop("role", f"{flavour}-deploy")
    duration = changes.pop("duration", 3600)
    session = SessionRequest(
        role_arn=f"arn:aws:iam::{account}:role/{role}",
        account_id=account,
        name="session",
        duration=duration,
    )
    arguments: dict[str, Any] = {
        "endpoint": sandbox.endpoint(REGION),
        "audience": AUDIENCES[flavour],
        "redactor": Redactor(),
        "now": lambda: datetime.now(UTC),
        "sleep": lambda _: None,
        "precheck": precheck,
        **changes,
    }
    return exchange(token, session, ExchangeOptions(**arguments))
