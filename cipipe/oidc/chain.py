"""A role assumed from another role's session, in the same account or another one (sts:AssumeRole).

AWS lets such a session last one hour at most, whatever the role allows.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
"""

from cipipe.errors import IdentityError
from cipipe.oidc.exchange import role_session, taken
from cipipe.oidc.session import SessionRequest, check
from cipipe.redact import Redactor
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.signed import SignedClient
from cipipe.tools.aws.sts import assume_role


def chain(
    first: Credentials, via: str, session: SessionRequest, *, endpoint: Endpoint, redactor: Redactor
) -> Credentials:
    """Assume `session`'s role with the credentials that `via`, a role, gave. Throttling and 5xx are
    repeated.

    Raises IdentityError.
    """
    check(session, region=endpoint.region, chained=True)
    try:
        given = assume_role(SignedClient(endpoint, lambda: first), role_session(session))
    except AwsUnreachable as error:
        raise IdentityError(
            "oidc-sts-unreachable",
            f"STS in {endpoint.region} did not answer: {error.message}",
            hint="Check the region, and that this runner reaches it.",
        ) from None
    except AwsError as error:
        raise IdentityError(
            "oidc-chain-denied" if error.code == "AccessDenied" else "oidc-chain-failed",
            f"{via} may not assume {session.role_arn}\nAWS says {error.code}: {error.text}"
            if error.code == "AccessDenied"
            else f"AWS did not let {via} assume {session.role_arn}\nAWS says {error.code}: {error.text}",
            hint="Two policies have to allow it: the trust policy of the second role names the first as its principal, "
            "for sts:AssumeRole; and a policy of the first allows sts:AssumeRole on the second.",
            where=session.role_arn,
        ) from None
    return taken(given, session, redactor)
