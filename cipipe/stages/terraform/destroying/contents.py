"""What is in the buckets and image repositories that a destroy deletes. Only reads."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.model import Owner
from cipipe.stages.context import StageContext
from cipipe.stages.terraform.destroying.going import Going
from cipipe.tools.aws.errors import AwsError

if TYPE_CHECKING:
    from cipipe.tools.aws.clients import Aws
    from cipipe.tools.aws.s3 import Bucket

# Versions after which counting stops, once it is known that others are
# there: a thousand cost a request.
_COUNTED = 100_000

# Names that a message has.
SHOWN = 10

# Objects that are asked for their owner, in each folder and in all: each
# costs a request. All of a folder's objects usually have one owner.
_ASKED = 64
_ASKED_IN_ALL = 1024
_AT_ONCE = 16


class BucketContents(msgspec.Struct, kw_only=True):
    """What a bucket has."""

    objects: int = 0
    # And delete markers; current objects included.
    versions: int = 0
    # Versions that no stage owns.
    unowned: int = 0
    # Some of their keys, in order.
    examples: list[str] = []
    # Counting stopped there.
    more: bool = False
    # Objects to ask for their owner.
    askable: list[str] = []


class RepositoryContents(msgspec.Struct, kw_only=True):
    """What an image repository has."""

    # The tags of each image, by digest.
    images: dict[str, list[str]] = {}
    # The digests of images that no stage deletes.
    unowned: list[str] = []

    @property
    def examples(self) -> list[str]:
        """How messages name the images that no stage deletes."""
        return [
            ", ".join(sorted(self.images[digest])) or f"{digest[:19]} (no tag)"
            for digest in self.unowned
        ]


def of_bucket(context: StageContext[Any], name: str) -> BucketContents:
    """What the bucket has; nothing where it does not exist. Raises AwsError."""
    found = BucketContents()
    folders: Counter[str] = Counter()
    try:
        for version in context.aws.bucket(name).versions(""):
            if found.versions >= _COUNTED and found.unowned:
                found.more = True
                break
            if found.versions and found.versions % _COUNTED == 0:
                context.line(f"s3://{name}: {found.versions:,} versions so far")

            current = version.latest and not version.deleted
            found.versions += 1
            found.objects += current
            if f"s3://{name}/{version.key}" in context.owned:
                continue
            found.unowned += 1
            if version.key not in found.examples[-1:] and len(found.examples) <= SHOWN:
                found.examples.append(version.key)
            folder = version.key.rpartition("/")[0]
            if current and folders[folder] < _ASKED and len(found.askable) < _ASKED_IN_ALL:
                folders[folder] += 1
                found.askable.append(version.key)
    except AwsError as error:
        if error.code != "NoSuchBucket":
            raise
    return found


def others_in(context: StageContext[Any], name: str, keys: list[str]) -> dict[str, str]:
    """The keys whose object says that another environment or project owns
    it, with the owner's name.

    cipipe reads what it writes: what this role may not read is nobody's.
    """
    from concurrent.futures import ThreadPoolExecutor

    bucket = context.aws.bucket(name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        owners = dict(zip(keys, pool.map(lambda key: _owner(bucket, key), keys), strict=True))
    here = (context.project, context.environment_name)
    return {
        key: owner.named
        for key, owner in owners.items()
        if owner is not None and (owner.project, owner.environment) != here
    }


def of_repository(context: StageContext[Any], going: Going) -> RepositoryContents:
    """What the repository has; nothing where it does not exist. Raises AwsError."""
    images: dict[str, list[str]] = {}
    pages = repository_aws(context, going).pages(
        "ecr", "list_images", repositoryName=going.text("name")
    )
    try:
        for image in (image for page in pages for image in page["imageIds"]):
            tags = images.setdefault(str(image["imageDigest"]), [])
            if "imageTag" in image:
                tags.append(str(image["imageTag"]))
    except AwsError as error:
        if error.code != "RepositoryNotFoundException":
            raise

    removed = context.removed()
    url = going.text("repository_url")
    unowned = [
        digest
        for digest, tags in images.items()
        if not tags or any(f"{url}:{tag}" not in removed for tag in tags)
    ]
    return RepositoryContents(images=images, unowned=unowned)


def repository_aws(context: StageContext[Any], going: Going) -> "Aws":
    """AWS in the repository's region."""
    parts = going.text("arn").split(":")
    return context.aws.at(parts[3]) if len(parts) > 3 and parts[3] else context.aws


def _owner(bucket: "Bucket", key: str) -> Owner | None:
    try:
        head = bucket.head(key)
    except AwsError as error:
        if error.status != 403:
            raise
        return None
    return Owner.read(head.owner) if head is not None and head.owner else None
