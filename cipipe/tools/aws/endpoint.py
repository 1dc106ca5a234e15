"""Where AWS is: a region of it, or a server that stands in for it (the
sandbox, MinIO).

Hosts are computed here, and compared with botocore's in the tests.
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from cipipe.errors import UsageError
from cipipe.partitions import partition_of

# The domain of each partition; that of all others is amazonaws.com.
_SUFFIX = {
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
}

# The domain of dual-stack (IPv6) hosts of each partition. S3 has its own
# scheme instead: see `url_of`.
_DUALSTACK = {
    "aws": "api.aws",
    "aws-us-gov": "api.aws",
    "aws-cn": "api.amazonwebservices.com.cn",
    "aws-eusc": "api.amazonwebservices.eu",
    "aws-iso": "api.aws.ic.gov",
    "aws-iso-b": "api.aws.scloud",
    "aws-iso-e": "api.cloud-aws.adc-e.uk",
    "aws-iso-f": "api.aws.hci.ic.gov",
}


@dataclass(frozen=True)
class Endpoint:
    """A region, and the URLs that replace AWS's own. Raises UsageError for a malformed URL."""

    region: str
    # Replaces AWS for every service; None: AWS itself.
    url: str | None = None
    _: KW_ONLY
    # A file with the certificates to trust, in PEM form; None: the
    # system's.
    ca_bundle: str | None = None
    # These come before `url` for their service.
    sts_url: str | None = None
    s3_url: str | None = None
    ecr_url: str | None = None
    fips: bool = False
    dualstack: bool = False

    def __post_init__(self) -> None:
        urls = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.sts_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ENDPOINT_URL_ECR": self.ecr_url,
        }
        for variable, url in urls.items():
            if url is not None and not _is_url(url):
                raise UsageError(
                    "usage",
                    f"{_without_password(url)!r} is not a URL",
                    hint="Use a URL like https://HOST or http://HOST:PORT.",
                    where=variable,
                )

    @classmethod
    def found_in(cls, env: Mapping[str, str], region: str) -> "Endpoint":
        """The endpoint that an environment names, by the variables that AWS's tools read."""
        return cls(
            region,
            env.get("AWS_ENDPOINT_URL") or None,
            ca_bundle=env.get("AWS_CA_BUNDLE") or env.get("REQUESTS_CA_BUNDLE") or None,
            sts_url=env.get("AWS_ENDPOINT_URL_STS") or None,
            s3_url=env.get("AWS_ENDPOINT_URL_S3") or None,
            ecr_url=env.get("AWS_ENDPOINT_URL_ECR") or None,
            fips=env.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true",
            dualstack=env.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true",
        )

    def own_url(self, service: str) -> str | None:
        """The URL that replaces AWS for this service; None: there is none."""
        own = {"sts": self.sts_url, "s3": self.s3_url, "ecr": self.ecr_url}
        return own.get(service) or self.url

    def url_of(self, service: str, region: str | None = None) -> str:
        """The URL of S3, STS or ECR, in this region or the given one.

        https://docs.aws.amazon.com/general/latest/gr/sts.html, …/s3.html, …/ecr.html
        """
        own = self.own_url(service)
        if own is not None:
            return own.rstrip("/")

        region = region or self.region
        partition = partition_of(region)
        name = f"{service}-fips" if self.fips else service
        suffix = _SUFFIX.get(partition, "amazonaws.com")

        if self.dualstack:
            if service == "s3":
                return f"https://{name}.dualstack.{region}.{suffix}"
            return f"https://{name}.{region}.{_DUALSTACK[partition]}"

        if (service, partition) == ("sts", "aws-us-gov"):
            # In GovCloud the usual host of STS is the FIPS one: there is no
            # `sts-fips`.
            name = service
        if service == "ecr":
            # Dual-stack hosts do without the label.
            name = f"api.{name}"
        return f"https://{name}.{region}.{suffix}"


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        port_is_valid = parts.port != 0
    except ValueError:
        # Raised for a port that is not a number, and for "[" without "]".
        return False

    # Credentials, a query or a fragment would be lost when a path is
    # appended.
    bare = "@" not in parts.netloc and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_valid and bare


def _without_password(text: str) -> str:
    before, at, host = text.rpartition("@")
    scheme = before.partition("//")[0]
    return f"{scheme}//…@{host}" if at else text
