"""A role assumed from another role's session, in the same account or
another one (sts:AssumeRole).

AWS limits such a session to one hour, whatever the role allows.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
"""

from cipipe.errors import IdentityError
from cipipe.interrupt import Interrupt
from cipipe.oidc.exchange import checked, role_session, unreachable
from cipipe.oidc.session import SessionRequest, check
from cipipe.redact import Redactor
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.signed import SignedClient
from cipipe.tools.aws.sts import assume_role


def chain(
    first: Credentials,
    via: str,
    session: SessionRequest,
    *,
    endpoint: Endpoint,
    redactor: Redactor,
    interrupt: Interrupt | None = None,
) -> Credentials:
    """Assume `session`'s role with the credentials `first`, which belong to
    the role `via`.

    Throttling and 5xx are retried. Raises IdentityError.
    """
    check(session, region=endpoint.region, chained=True)
    try:
        client = SignedClient(endpoint, lambda: first, interrupt)
        assumed = assume_role(client, role_session(session))
    except AwsUnreachable as error:
        raise unreachable(error, endpoint) from None
    except AwsError as error:
        raise _refused(error, via, session) from None
    return checked(assumed, session, redactor)


def _refused(error: AwsError, via: str, session: SessionRequest) -> IdentityError:
    denied = error.code == "AccessDenied"
    what = f"AWS did not let {via} assume {session.role_arn}"
    if denied:
        what = f"{via} may not assume {session.role_arn}"
    return IdentityError(
        "oidc-chain-denied" if denied else "oidc-chain-failed",
        f"{what}\nAWS says {error.code}: {error.text}",
        hint="Two policies have to allow it: the trust policy of the second role names the first "
        "as its principal, for sts:AssumeRole; and a policy of the first role allows "
        "sts:AssumeRole on the second.",
        where=session.role_arn,
    )
