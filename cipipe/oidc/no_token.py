"""The errors for a job without an ID token: one of a fork cannot get any, another one can."""

from cipipe.errors import IdentityError
from cipipe.model import Context


def missing_token(
    context: Context, message: str, *, hint: str, where: str | None = None
) -> IdentityError:
    """The error for this job, which has no token and needs one."""
    if context.fork:
        return IdentityError(
            "oidc-fork-cannot-mint",
            f"this pipeline is for a request from a fork, which gets no ID token: {message}",
            hint="That is the provider's safeguard, and no setting of the job changes it. "
            "`cipipe plan --offline` needs no token; what needs one runs after a member of the "
            "project has moved the branch into the project, or after the merge.",
        )
    return no_token(message, hint=hint, where=where)


def no_token(message: str, *, hint: str, where: str | None = None) -> IdentityError:
    """The error for a process that could have a token."""
    return IdentityError("oidc-no-token", message, hint=hint, where=where)
