"""Where AWS is, with which keys it is asked, and what comes of a call that fails."""

import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cipipe.errors import StageError, UsageError
from cipipe.model import partition_of

_SUFFIX = {
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
}
_DUALSTACK = {
    "aws": "api.aws",
    "aws-us-gov": "api.aws",
    "aws-cn": "api.amazonwebservices.com.cn",
    "aws-eusc": "api.amazonwebservices.eu",
}
"""Where hosts with IPv6 are, by partition; those of S3 in the older partitions are elsewhere."""


class AwsError(StageError):
    """AWS refused a call. `code` is AWS's own (`AccessDenied`, `NoSuchKey`, …), `status` the HTTP
    status.

    `region` is where S3 says that the bucket is.
    """

    region: str | None = None

    def __init__(
        self, operation: str, code: str, text: str, status: int | None, *, where: str | None = None
    ) -> None:
        super().__init__(
            "aws-refused",
            f"AWS refused {operation}: {code}: {text}",
            hint="The role that this job runs as may lack the permission, or the resource does not exist.",
            where=where,
        )
        self.operation = operation
        self.code = code
        self.status = status
        self.text = text


class AwsUnreachable(StageError):
    def __init__(self, detail: str) -> None:
        super().__init__(
            "aws-unreachable",
            f"AWS does not answer: {detail}",
            hint="Check region, network and proxy.",
        )


@dataclass(frozen=True)
class Credentials:
    """A set of AWS keys. Temporary ones have a token and say until when they hold (UTC)."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expiration: datetime | None = None

    def environment(self) -> dict[str, str]:
        """These keys as AWS's tools read them from their environment."""
        env = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }
        if self.session_token:
            env["AWS_SESSION_TOKEN"] = self.session_token
        return env


Source = Callable[[], Credentials]
"""Gives credentials that hold for a while yet, renewed where they would not."""


@dataclass(frozen=True)
class Endpoint:
    """Where AWS is: a region, and a URL where it is not AWS's own (the sandbox), for one service or
    for all others.

    `ca_bundle` is a file with the certificates to trust. Raises UsageError where a URL is none.
    """

    region: str
    url: str | None = None
    ca_bundle: str | None = None
    sts_url: str | None = None
    s3_url: str | None = None
    fips: bool = False
    dualstack: bool = False

    def __post_init__(self) -> None:
        names = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.sts_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
        }
        for name, url in names.items():
            if url is not None and not _is_url(url):
                raise UsageError(
                    "usage",
                    f"{_shown(url)!r} is not a URL",
                    hint="It looks like https://HOST or http://HOST:PORT.",
                    where=name,
                )

    @classmethod
    def found_in(cls, env: Mapping[str, str], region: str) -> "Endpoint":
        """Where a process's environment says that AWS is, by the variables that AWS's tools read."""
        return cls(
            region,
            env.get("AWS_ENDPOINT_URL") or None,
            ca_bundle=env.get("AWS_CA_BUNDLE") or env.get("REQUESTS_CA_BUNDLE") or None,
            sts_url=env.get("AWS_ENDPOINT_URL_STS") or None,
            s3_url=env.get("AWS_ENDPOINT_URL_S3") or None,
            fips=env.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true",
            dualstack=env.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true",
        )

    def own_url(self, service: str) -> str | None:
        """The URL of a service that is not AWS's own."""
        return {"sts": self.sts_url, "s3": self.s3_url}.get(service) or self.url

    def url_of(self, service: str, region: str | None = None) -> str:
        """The URL of S3 or STS in the region (or another one), in the region's partition.

        https://docs.aws.amazon.com/general/latest/gr/sts.html, …/s3.html
        """
        own = self.own_url(service)
        if own is not None:
            return own.rstrip("/")
        region = region or self.region
        partition = partition_of(region)
        name, suffix = (
            f"{service}-fips" if self.fips else service,
            _SUFFIX.get(partition, "amazonaws.com"),
        )
        if self.dualstack and partition in _DUALSTACK:
            if service == "s3" and partition != "aws-eusc":
                return f"https://{name}.dualstack.{region}.{suffix}"
            return f"https://{name}.{region}.{_DUALSTACK[partition]}"
        if (service, partition) == ("sts", "aws-us-gov"):
            name = service  # which is validated under its usual name
        return f"https://{name}.{region}.{suffix}"


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        plain = "@" not in parts.netloc and not parts.query and not parts.fragment
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
        )
    except ValueError:  # of a port that is no number
        return False


def _shown(text: str) -> str:
    """Without what may be a password."""
    before, at, after = text.rpartition("@")
    return f"{before.partition('//')[0]}//…@{after}" if at else text
