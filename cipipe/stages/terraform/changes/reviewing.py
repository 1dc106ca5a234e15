"""Reviews of infrastructure: a merge request's job stores what it showed,
and a deployment is held to it.
"""

from collections.abc import Iterator

import msgspec

from cipipe.errors import RefusedError, StageError
from cipipe.model import Review
from cipipe.reviews import Reviews, StoredReview
from cipipe.stages.context import StageContext
from cipipe.stages.terraform.changes import review
from cipipe.stages.terraform.changes.model import ChangeSet
from cipipe.stages.terraform.changes.review import ReviewedChanges
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.tools.aws.errors import AwsError

# How many differences an error names.
_SHOWN = 20


def store(context: StageContext[TerraformSettings], changes: ChangeSet) -> None:
    """Store what this merge request's plan changes, so that a deployment may do it.

    Raises StageError where that fails and the environment requires a review.
    """
    reviews = context.reviews
    if reviews is None:
        return
    reviewed = review.reviewed(changes)
    try:
        new = reviews.store(
            context.stage.name, context.fingerprint, reviewed.digest, review.as_json(reviewed)
        )
    except AwsError as error:
        _not_stored(context, reviews, error)
    else:
        context.line(
            "recorded these changes as reviewed" if new else "these changes are recorded already"
        )


def warn_unplanned(context: StageContext[TerraformSettings]) -> None:
    """Say what a review that could not be made means for the deployment."""
    reviews = context.reviews
    if reviews is not None and reviews.policy is Review.REQUIRED:
        context.line(
            "warning: nobody can review what was not planned, so changes of this stage will be "
            "refused: deploy what it needs first, then open a merge request that shows them"
        )


def check(context: StageContext[TerraformSettings], changes: ChangeSet) -> None:
    """Compare a plan with what was reviewed for the same content.

    Raises RefusedError where it does more and the environment requires a
    review; otherwise warns.
    """
    reviews = context.reviews
    if reviews is None or changes.empty:
        return
    stored = list(_readable(reviews.of(context.stage.name, context.fingerprint)))
    if not stored:
        _complain(
            context,
            RefusedError(
                "terraform-not-reviewed",
                f"no merge request showed what stage {context.stage.name} would change in "
                f"{context.environment_name} with this content:"
                + _listed(review.unreviewed(changes, ReviewedChanges())),
                hint="Open a merge request on top of this commit, let its job run `cipipe run`, "
                "and merge it. If one is open already, bring its branch up to date with the "
                "target branch first.",
                where=f"environments.{context.environment_name}.review",
            ),
        )
        return

    beyond = [(review.unreviewed(changes, reviewed), of) for of, reviewed in stored]
    differences, closest = min(beyond, key=lambda found: len(found[0]))
    if not differences:
        context.line(f"as reviewed in {_place(closest)}")
        return
    _complain(
        context,
        RefusedError(
            "terraform-beyond-review",
            f"the plan of stage {context.stage.name} does more than what was reviewed in "
            f"{_place(closest)}:{_listed(differences)}",
            hint="Something changed outside of this repository since then. Undo that, or run the "
            "merge request's job again and have its new plan reviewed; then run this again.",
            where=f"environments.{context.environment_name}.review",
        ),
    )


def _complain(context: StageContext[TerraformSettings], error: RefusedError) -> None:
    if context.reviews is not None and context.reviews.policy is Review.REQUIRED:
        raise error
    context.line(f"warning: {error.message}")


def _not_stored(
    context: StageContext[TerraformSettings], reviews: Reviews, error: AwsError
) -> None:
    failed = StageError(
        "review-not-stored",
        f"what stage {context.stage.name} would change cannot be recorded as reviewed: "
        f"{error.code}: {error.text}",
        hint="Run `cipipe bootstrap` again: it lets the verify role write reviews, and nothing "
        "else.",
        where=f"s3://{reviews.bucket.name}/{reviews.prefix}reviews/",
    )
    if reviews.policy is Review.REQUIRED:
        raise failed from error
    context.line(f"warning: {failed.message}")


def _readable(stored: tuple[StoredReview, ...]) -> Iterator[tuple[StoredReview, ReviewedChanges]]:
    """Those whose contents are what their digest says."""
    for one in stored:
        try:
            reviewed = review.from_json(one.changes)
        except msgspec.MsgspecError:
            continue
        if reviewed.digest == one.digest:
            yield one, reviewed


def _place(of: StoredReview) -> str:
    request = f"merge request {of.merge_request}" if of.merge_request else "a merge request"
    commit = f" at {of.commit[:7]}" if of.commit else ""
    url = f" ({of.pipeline_url})" if of.pipeline_url else ""
    return f"{request}{commit}{url}"


def _listed(differences: tuple[str, ...]) -> str:
    shown = "".join(f"\n  {one}" for one in differences[:_SHOWN])
    rest = len(differences) - _SHOWN
    return shown + (f"\n  and {rest} more" if rest > 0 else "")
