"""A bucket that a team has by other means: the accounts of a sandbox do not have it."""

from typing import Any

from cipipe.stages.context import StageContext


def ensure(context: StageContext[Any], bucket: str, region: str) -> None:
    """Create the bucket if this is a sandbox and has none of that name."""
    if not context.sandbox:
        return
    from cipipe.tools.aws import buckets

    aws = context.aws.at(region)
    if not buckets.exists(aws, bucket):
        buckets.create_versioned(aws, bucket)
        context.line(f"created the bucket {bucket} in the sandbox")
