"""The AWS partitions: groups of regions with accounts, endpoints and ARNs of their own."""

PARTITIONS = {
    "aws-cn": "cn-",
    "aws-us-gov": "us-gov-",
    "aws-eusc": "eusc-",
    "aws-iso": "us-iso-",
    "aws-iso-b": "us-isob-",
    "aws-iso-e": "eu-isoe-",
    "aws-iso-f": "us-isof-",
}
"""What the names of the regions of each partition start with; all others are in `aws`."""

ANY_PARTITION = rf"(aws|{'|'.join(PARTITIONS)})"
"""A regular expression for the second field of an ARN, with one group."""


def partition_of(region: str) -> str:
    """The partition that a region is in, such as `aws` or `aws-cn`."""
    return next((name for name, start in PARTITIONS.items() if region.startswith(start)), "aws")
