"""The bucket of a state that a team made by hand: the accounts of a sandbox do not have it."""

from typing import Any

from cipipe.stages.context import StageContext
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.state import backend_of
from cipipe.tools.aws.errors import AwsError


def create_in_sandbox(context: StageContext[TerraformSettings]) -> None:
    """Create the bucket that the stage's state is in, if this is a sandbox and has none."""
    if not context.sandbox:
        return
    backend = backend_of(context.stage.settings, context.environment, sandbox=True)
    bucket = backend.settings.get("bucket")
    region = str(backend.settings.get("region"))
    if backend.type != "s3" or not isinstance(bucket, str):
        return
    aws = context.aws.at(region)
    try:
        aws.call("s3", "head_bucket", Bucket=bucket)
    except AwsError as error:
        if error.status != 404:
            raise
        # S3 refuses us-east-1, its default, as a location.
        where: dict[str, Any] = {}
        if region != "us-east-1":
            where["CreateBucketConfiguration"] = {"LocationConstraint": region}
        aws.call("s3", "create_bucket", Bucket=bucket, **where)
        context.line(f"created the bucket {bucket} of the state in the sandbox")
