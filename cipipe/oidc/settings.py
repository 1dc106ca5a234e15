"""Problems with the roles and sessions of an environment in cipipe.toml, as
far as they show without AWS.

`oidc/session.py` checks the request that is built from them again.
"""

import re
from collections.abc import Iterator

from cipipe.errors import Problem
from cipipe.model import Environment
from cipipe.oidc.session import (
    LONGEST,
    LONGEST_CHAINED,
    MOST_POLICY_ARNS,
    MOST_POLICY_CHARACTERS,
    SHORTEST,
    policy_text,
)
from cipipe.partitions import ANY_PARTITION, partition_of

_ROLE_ARN = re.compile(rf"arn:{ANY_PARTITION}:iam::(\d{{12}}):role/[\w+=,.@/-]+")


def problems(environment: Environment, path: str) -> Iterator[Problem]:
    """Every problem. `path` is the key path of the environment's table."""
    for key in ("role_arn", "verify_role_arn", "via_role_arn", "verify_via_role_arn"):
        yield from _role(environment, key, f"{path}.{key}")

    chained = environment.via_role_arn or environment.verify_via_role_arn
    longest = LONGEST_CHAINED if chained else LONGEST
    if not SHORTEST <= environment.session_seconds <= longest:
        where = " where roles are chained" if chained else ""
        message = f"a session lasts {SHORTEST} to {longest} seconds{where}"
        yield Problem("config-bad-session", message, f"{path}.session_seconds")

    if len(policy_text(environment.session_policy)) > MOST_POLICY_CHARACTERS:
        message = (
            f"a session policy has {MOST_POLICY_CHARACTERS} characters at most, not counting "
            "whitespace"
        )
        yield Problem("config-bad-session", message, f"{path}.session_policy")
    if len(environment.session_policy_arns) > MOST_POLICY_ARNS:
        message = f"a session has {MOST_POLICY_ARNS} managed policies at most"
        yield Problem("config-bad-session", message, f"{path}.session_policy_arns")

    if environment.verify_via_role_arn and not environment.verify_role_arn:
        message = "there is no verify_role_arn to assume from it"
        yield Problem("config-bad-session", message, f"{path}.verify_via_role_arn")


def _role(environment: Environment, key: str, where: str) -> Iterator[Problem]:
    arn = getattr(environment, key)
    if not arn:
        return

    found = _ROLE_ARN.fullmatch(arn)
    partition = partition_of(environment.region)
    if not found:
        example = f"arn:{partition}:iam::ACCOUNT:role/NAME"
        message = f"{arn!r} is not the ARN of a role"
        yield Problem("config-bad-role", message, where, hint=example)
        return

    # The role that deploys is in the environment's account. The one that it
    # is assumed from may be in another one.
    if "via" not in key and found[2] != environment.account_id:
        message = f"the role is in account {found[2]}, the environment in {environment.account_id}"
        yield Problem("config-bad-role", message, where)
    elif found[1] != partition:
        message = (
            f"the role is in partition {found[1]}, the region {environment.region} in {partition}"
        )
        yield Problem("config-bad-role", message, where)
