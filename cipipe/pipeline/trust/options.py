"""The options of `cipipe oidc trust-policy`, and the errors for what cannot be used."""

import re
from collections.abc import Sequence

import msgspec

from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.oidc.request import visible

# A name that git accepts as a branch, or as a tag with its prefix.
_REF = re.compile(r"(refs/(heads|tags)/)?(?!refs/)[^\x00-\x20\x7f:~^\[\\]+")


class TrustPolicyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything is optional: what is missing comes from cipipe.toml and from the job."""

    provider: str | None = None
    # The path that the provider shows, such as group/name.
    project: str | None = None
    # Branches, and tags as refs/tags/NAME.
    refs: tuple[str, ...] = ()
    # The environment of the provider that jobs are in; not one of
    # cipipe.toml.
    job_environment: str | None = None
    environment_refs: tuple[str, ...] = ()
    # The ids of project and owner have to match as well.
    pin_ids: bool = False
    project_id: str | None = None
    owner_id: str | None = None
    # None: where AWS can see whether a ref is protected.
    protected: bool | None = None
    provider_arn: str | None = None
    audience: str | None = None


def check(options: TrustPolicyOptions) -> None:
    """Refuse values of which no useful policy can be made. Raises UsageError `usage`."""
    named = (("--ref", options.refs), ("--environment-ref", options.environment_refs))
    for option, refs in named:
        for ref in refs:
            if not _REF.fullmatch(ref):
                raise unusable(option, f"{ref!r} is neither a branch nor refs/tags/NAME")
    if options.environment_refs and options.job_environment is None:
        raise unusable("--environment-ref", "it needs --environment", "Use --ref instead.")

    texts = (("--environment", options.job_environment), ("--audience", options.audience))
    for option, value in texts:
        if value is not None and not value.strip():
            raise unusable(option, "it is empty")
    ids = (("--project-id", options.project_id), ("--owner-id", options.owner_id))
    for option, value in ids:
        if value is not None and not options.pin_ids:
            raise unusable(option, "it needs --pin-ids", "Add --pin-ids, or leave it out.")


def branches_and_tags(refs: Sequence[str]) -> DeployFrom:
    """The refs of an option, by type."""
    tags = [ref.removeprefix("refs/tags/") for ref in refs if ref.startswith("refs/tags/")]
    branches = [ref.removeprefix("refs/heads/") for ref in refs if not ref.startswith("refs/tags/")]
    return DeployFrom(branches=tuple(branches), tags=tuple(tags))


def refuse_hidden(claims: set[str], issuer: str, option: str) -> None:
    """Refuse an option that needs claims which AWS does not see of an
    issuer.

    Raises UsageError `oidc-pins-not-visible`.
    """
    offered = visible(issuer)
    hidden = sorted(claims - offered)
    if hidden:
        raise UsageError(
            "oidc-pins-not-visible",
            f"AWS does not see {' and '.join(hidden)} of {issuer}, so a condition on it would "
            "never hold",
            hint=f"Leave {option} out. AWS sees {', '.join(sorted(offered))} of this issuer.",
            where=option,
        )


def needed(option: str, what: str, hint: str | None = None) -> UsageError:
    """The error for an option that is missing and has no default here."""
    return UsageError(
        "usage", f"{option} is needed: {what}", hint=hint or f"Pass {option}.", where=option
    )


def unusable(
    option: str, what: str, hint: str = "See `cipipe oidc trust-policy --help`."
) -> UsageError:
    """The error for a value that cannot be used."""
    return UsageError("usage", f"{option} cannot be used: {what}", hint=hint, where=option)
