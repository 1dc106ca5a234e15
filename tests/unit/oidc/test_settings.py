"""Problems with roles and sessions are reported with the other problems of a configuration."""

from typing import Any

import pytest

from cipipe.model import Environment
from cipipe.oidc.settings import problems

ROLE, OTHER = "arn:aws:iam::111111111111:role/deploy", "arn:aws:iam::222222222222:role/gate"
BASE = {"account_id": "111111111111", "region": "eu-central-1", "role_arn": ROLE}
LONG = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "x" * 2000}]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"via_role_arn": OTHER},
        {"verify_role_arn": ROLE, "verify_via_role_arn": OTHER},
        {"session_seconds": 43200},
        {"via_role_arn": OTHER, "session_seconds": 3600},
        {
            "session_policy": {"Statement": []},
            "session_policy_arns": ("arn:aws:iam::aws:policy/ReadOnlyAccess",) * 10,
        },
        {"region": "cn-north-1", "role_arn": ROLE.replace(":aws:", ":aws-cn:")},
        {"region": "us-gov-west-1", "role_arn": ROLE.replace(":aws:", ":aws-us-gov:")},
    ],
)
def test_good_settings(settings: dict[str, Any]) -> None:
    assert list(problems(Environment(**{**BASE, **settings}), "environments.dev")) == []


@pytest.mark.parametrize(
    ("settings", "where", "id"),
    [
        ({"role_arn": "deploy"}, "role_arn", "config-bad-role"),
        ({"role_arn": OTHER}, "role_arn", "config-bad-role"),
        ({"region": "cn-north-1"}, "role_arn", "config-bad-role"),
        ({"via_role_arn": "gate"}, "via_role_arn", "config-bad-role"),
        ({"via_role_arn": OTHER.replace(":aws:", ":aws-cn:")}, "via_role_arn", "config-bad-role"),
        ({"verify_via_role_arn": OTHER}, "verify_via_role_arn", "config-bad-session"),
        ({"session_seconds": 899}, "session_seconds", "config-bad-session"),
        ({"session_seconds": 43201}, "session_seconds", "config-bad-session"),
        ({"via_role_arn": OTHER, "session_seconds": 3601}, "session_seconds", "config-bad-session"),
        ({"session_policy": LONG}, "session_policy", "config-bad-session"),
        ({"session_policy_arns": ("x",) * 11}, "session_policy_arns", "config-bad-session"),
    ],
)
def test_a_problem_names_its_key(settings: dict[str, Any], where: str, id: str) -> None:
    (found,) = problems(Environment(**{**BASE, **settings}), "environments.dev")
    assert (found.where, found.id) == (f"environments.dev.{where}", id)
