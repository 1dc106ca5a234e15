"""The errors for a job without an ID token: a fork's job cannot have one, others can."""

from cipipe.errors import IdentityError
from cipipe.model import Context


def missing_token(
    context: Context, message: str, *, hint: str, where: str | None = None
) -> IdentityError:
    """The error for this job, which has no token and needs one."""
    # No setting helps there, so the hint must not suggest one.
    if context.fork:
        return IdentityError(
            "oidc-fork-cannot-mint",
            f"this pipeline runs for a request from a fork, which gets no ID token: {message}",
            hint="That is the provider's safeguard, and no setting of the job changes it. "
            "`cipipe plan --offline` needs no token; run what needs one after the merge, or after "
            "a member of the project has pushed the branch to it.",
        )
    return no_token(message, hint=hint, where=where)


def no_token(message: str, *, hint: str, where: str | None = None) -> IdentityError:
    """The error for a process that could have a token."""
    return IdentityError("oidc-no-token", message, hint=hint, where=where)
