"""`--empty`: delete what is in the buckets and repositories of the state, so
that Terraform can delete them.

Nothing else is emptied: what to empty is what the saved plan deletes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from cipipe.errors import StageError
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.terraform.destroying.contents import of_repository, repository_aws
from cipipe.stages.terraform.destroying.going import BUCKET, Going
from cipipe.stages.terraform.destroying.preflight import in_the_way
from cipipe.tools.aws.deletions import AT_ONCE
from cipipe.tools.aws.errors import AwsError

if TYPE_CHECKING:
    from cipipe.tools.aws.s3 import Version

# Versions after which a line says how far it is.
_REPORTED = 10_000

# What ECR accepts with one request.
_IMAGES_AT_ONCE = 100


def empty(context: StageContext[Any], result: StageResult, going: Iterable[Going]) -> None:
    """Empty what has to be empty, and say how much was deleted. Raises
    StageError; ConflictError where a later run took over the stage.
    """
    emptied = result.findings.setdefault("destroy", {}).setdefault("emptied", [])
    for one in in_the_way(going):
        if one.type == BUCKET:
            place = f"s3://{one.text('bucket')}"
            count = _empty_bucket(context, one.text("bucket"))
            sort = "version"
        else:
            place = one.text("repository_url")
            count = _empty_repository(context, one)
            sort = "image"
        if count:
            emptied.append({"name": place, "sort": sort, "count": count})
            context.line(f"emptied {place}: {count:,} {sort}{'s' if count > 1 else ''} deleted")


def _empty_bucket(context: StageContext[Any], name: str) -> int:
    bucket = context.aws.bucket(name)
    deleted = 0
    try:
        for batch in _batches(bucket.versions("")):
            context.still_ours()
            bucket.delete_versions(batch)
            before = deleted
            deleted += len(batch)
            if before // _REPORTED != deleted // _REPORTED:
                context.line(f"s3://{name}: {deleted:,} versions deleted so far")
    except AwsError as error:
        if error.code != "NoSuchBucket":
            raise
    return deleted


def _batches(versions: "Iterator[Version]") -> "Iterator[Sequence[Version]]":
    while batch := list(islice(versions, AT_ONCE)):
        yield batch


def _empty_repository(context: StageContext[Any], one: Going) -> int:
    digests = list(of_repository(context, one).images)
    waiting = digests
    while waiting:
        left = []
        for start in range(0, len(waiting), _IMAGES_AT_ONCE):
            context.still_ours()
            left += _delete_images(context, one, waiting[start : start + _IMAGES_AT_ONCE])
        if len(left) == len(waiting):
            raise _undeleted(one, f"{left[0]}: another image refers to it")
        waiting = left
    return len(digests)


def _delete_images(context: StageContext[Any], one: Going, digests: Sequence[str]) -> list[str]:
    """Delete some images; returns those that have to wait for an index of them to be deleted."""
    answer = repository_aws(context, one).call(
        "ecr",
        "batch_delete_image",
        repositoryName=one.text("name"),
        imageIds=[{"imageDigest": digest} for digest in digests],
    )
    waiting = []
    for failure in answer.get("failures", ()):
        code = failure.get("failureCode")
        digest = failure.get("imageId", {}).get("imageDigest", "")
        if code == "ImageReferencedByManifestList":
            waiting.append(digest)
        elif code != "ImageNotFound":
            raise _undeleted(one, f"{digest}: {failure.get('failureReason') or code}")
    return waiting


def _undeleted(one: Going, reason: str) -> StageError:
    return StageError(
        "registry-delete-failed", f"images could not be deleted: {reason}", where=one.address
    )
