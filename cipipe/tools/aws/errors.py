"""The two ways a call to AWS fails: AWS refused it, or AWS could not be reached."""

from cipipe.errors import IdentityError, StageError


class AwsError(StageError):
    """AWS refused a call."""

    # `service:Operation`, such as `s3:GetObject`.
    operation: str
    # AWS's own code (`AccessDenied`, `NoSuchKey`, …).
    code: str
    # AWS's own message.
    text: str
    # The HTTP status; None when boto3 did not report one.
    status: int | None
    # The region that S3 says the bucket is in, when the request went to
    # another one.
    region: str | None = None

    def __init__(
        self, operation: str, code: str, text: str, status: int | None, *, where: str | None = None
    ) -> None:
        super().__init__(
            "aws-refused",
            f"AWS refused {operation}: {code}: {text}",
            hint="The role of this job may lack the permission, or the resource does not exist.",
            where=where,
        )
        self.operation = operation
        self.code = code
        self.text = text
        self.status = status


class AwsUnreachable(StageError):
    """No usable answer came from AWS; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "aws-unreachable",
            f"AWS does not answer: {detail}",
            hint="Check region, network and proxy.",
        )


class NoCredentials(IdentityError):
    """Neither the environment nor a profile has credentials, so nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "identity-missing",
            "there are no AWS credentials here: no job token, no keys, no AWS_PROFILE",
            hint="Run this in a pipeline job, log in with `aws sso login`, or use --sandbox.",
        )
