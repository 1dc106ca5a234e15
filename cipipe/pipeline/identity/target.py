"""What a command uses instead of AWS: the sandbox."""

from collections.abc import Callable, Mapping

import msgspec

from cipipe.model import Environment
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint


class AwsTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The AWS services that a command uses instead of AWS."""

    # By region.
    endpoint: Callable[[str], Endpoint]
    # May read a role's trust policy, and bootstrap the account.
    admin: Credentials
    # Variables that point child processes at the target.
    child_env: Mapping[str, str]
    # Gives an ID token for an environment, and its audience.
    mint: Callable[[Environment], tuple[str, str]]
    # Tools that are not installed, with how to get each.
    missing: Mapping[str, str] = {}
