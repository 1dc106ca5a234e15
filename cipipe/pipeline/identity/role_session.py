"""One session of a role: a token that is fetched anew, exchanged at STS,
and checked.

`Session.role_session` puts it together.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cipipe.errors import CipipeError, IdentityError, RefusedError
from cipipe.interrupt import Interrupt
from cipipe.model import Environment, Mode
from cipipe.oidc.session import LONGEST_CHAINED, SessionRequest, policy_text
from cipipe.pipeline.identity.tokens import Mint
from cipipe.redact import Redactor
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """Makes one session each time it is called."""

    mint: Mint
    session: SessionRequest
    # The role that the token is exchanged for, where the session's role is
    # assumed from it.
    via: str | None
    endpoint: Endpoint
    redactor: Redactor
    # Cuts the waits between attempts at STS short.
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    # May read the role's trust policy, to explain a denial. The sandbox's
    # only.
    admin: Credentials | None = None
    # Looks at a token that AWS accepted, before anybody gets the
    # credentials.
    inspect: Callable[[str], None] | None = None

    def __call__(self) -> Credentials:
        # A person's own credentials need neither.
        from cipipe.oidc.chain import chain
        from cipipe.oidc.exchange import ExchangeOptions, exchange

        token, audience = self.mint()
        session = self.session
        if self.via is not None:
            session = SessionRequest(
                role_arn=self.via,
                account_id=self.via.split(":")[4],
                name=session.name,
                duration=min(session.duration, LONGEST_CHAINED),
            )
        options = ExchangeOptions(
            endpoint=self.endpoint,
            audience=audience,
            redactor=self.redactor,
            now=now,
            sleep=self.interrupt.waiter(),
            read_policy=lambda: self._trust_policy(session.role_arn),
        )
        credentials = exchange(token, session, options)
        if self.inspect is not None:
            self.inspect(token)
        if self.via is None:
            return credentials
        return chain(
            credentials,
            self.via,
            self.session,
            endpoint=self.endpoint,
            redactor=self.redactor,
            interrupt=self.interrupt,
        )

    def _trust_policy(self, role: str) -> dict[str, Any] | None:
        if self.admin is None:
            return None
        aws = Aws(self.endpoint, self.admin)
        try:
            answer = aws.call("iam", "get_role", RoleName=role.rpartition("/")[2])
        except CipipeError:
            return None
        policy = answer["Role"]["AssumeRolePolicyDocument"]
        return dict(policy) if isinstance(policy, Mapping) else None


def request_for(environment: Environment, role: str, name: str) -> SessionRequest:
    """The request for a session of a role, as the environment's settings want it."""
    return SessionRequest(
        role_arn=role,
        account_id=environment.account_id,
        name=name,
        duration=environment.session_seconds,
        policy=policy_text(environment.session_policy),
        policy_arns=environment.session_policy_arns,
    )


def role_of(
    name: str, environment: Environment, mode: Mode, *, read_only: bool = False
) -> tuple[str, str | None]:
    """The role of a job in this mode, and the one that it is assumed from,
    if there is one.

    Raises IdentityError `oidc-role-missing`.
    """
    if mode is Mode.VERIFY and environment.verify_role_arn is None:
        raise IdentityError(
            "oidc-role-missing",
            f"environment {name} has no role for merge and pull requests",
            hint="Set verify_role_arn to a read-only role; the deploy role is never given to "
            "unmerged code.",
            where=f"environments.{name}.verify_role_arn",
        )
    if (read_only or mode is Mode.VERIFY) and environment.verify_role_arn:
        return environment.verify_role_arn, environment.verify_via_role_arn
    return environment.role_arn, environment.via_role_arn


def merge_request_read_only(name: str) -> RefusedError:
    """The error for a merge request's job that would change an environment."""
    return RefusedError(
        "merge-request-read-only",
        f"this is the job of a merge or pull request, which changes nothing in {name}",
        hint="Run it from a branch or tag that deploy_from names, after the merge.",
        where=f"environments.{name}",
    )


def now() -> datetime:
    return datetime.now(UTC)
