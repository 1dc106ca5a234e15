"""Where S3, STS and ECR are, compared with botocore."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider

from cipipe.errors import UsageError
from cipipe.tools.aws import transport
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest
from support import servers
from support.shop import ACCOUNT, CONFIG, Cli, Shop

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"


def test_a_bucket_in_another_region_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Elsewhere:
        def __init__(self, _: str | None) -> None: ...

        def send(self, request: AwsRequest) -> AwsAnswer:
            scope = request.headers["authorization"].split("/")
            asked.append((request.origin + request.target, scope[2]))
            if "us-west-2" in request.origin:
                return AwsAnswer(200, {"etag": '"e"'}, b"there")
            return AwsAnswer(301, {"x-amz-bucket-region": "us-west-2"}, b"")

    monkeypatch.setattr(transport, "Transport", Elsewhere)
    bucket = Aws(Endpoint(REGION), KEYS).bucket("box")
    for _ in range(2):
        stored = bucket.get("a")
        assert stored is not None
        assert stored.body == b"there"
    assert asked == [
        ("https://box.s3.eu-central-1.amazonaws.com/a", "eu-central-1"),
        ("https://box.s3.us-west-2.amazonaws.com/a", "us-west-2"),
        ("https://box.s3.us-west-2.amazonaws.com/a", "us-west-2"),
    ]


def test_all_threads_follow_a_bucket_in_another_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is answered before all were sent."""
    here = threading.Barrier(8)

    class Elsewhere:
        def __init__(self, _: str | None) -> None: ...

        def send(self, request: AwsRequest) -> AwsAnswer:
            if "us-west-2" in request.origin:
                return AwsAnswer(200, {"etag": '"e"'}, b"there")
            here.wait(10)
            error = (
                b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></"
                b"Error>"
            )
            return AwsAnswer(400, {}, error)

    monkeypatch.setattr(transport, "Transport", Elsewhere)
    bucket = Aws(Endpoint(REGION), KEYS).bucket("box")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(bucket.get, "abcdefgh"))


# What the rules of S3 and STS want to know besides.
_MORE = {
    "s3": {
        "Accelerate": False,
        "DisableMultiRegionAccessPoints": False,
        "ForcePathStyle": False,
        "UseGlobalEndpoint": False,
    },
    "sts": {"UseGlobalEndpoint": False},
    "ecr": {},
}


@pytest.mark.parametrize("dualstack", [False, True])
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("service", ["s3", "sts", "ecr"])
def test_hosts_equal_botocores(service: str, fips: bool, dualstack: bool) -> None:
    """Those of its rules, which decide where its requests go, in every region of every partition:
    a client's `meta.endpoint_url` is not always the same.
    """
    session = botocore.session.get_session()
    data = session.get_component("data_loader")
    rules = EndpointProvider(
        data.load_service_model(service, "endpoint-rule-set-1"), data.load_data("partitions")
    )
    form = {"UseFIPS": fips, "UseDualStack": dualstack, **_MORE[service]}
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ecr", partition)
        # There is no FIPS 140 in China.
        if not (fips and partition == "aws-cn" and service == "s3")
    ]
    assert len(regions) > 40
    ours = {
        region: Endpoint(region, fips=fips, dualstack=dualstack).url_of(service)
        for region in regions
    }
    theirs = {region: rules.resolve_endpoint(Region=region, **form).url for region in regions}
    assert ours == theirs


@pytest.mark.parametrize(
    ("endpoint", "name", "url"),
    [
        (Endpoint(REGION), "box", "https://box.s3.eu-central-1.amazonaws.com"),
        (Endpoint(REGION), "Old_Box", "https://s3.eu-central-1.amazonaws.com/Old_Box"),
        (Endpoint(REGION), "my.box", "https://s3.eu-central-1.amazonaws.com/my.box"),
        (Endpoint("cn-north-1"), "box", "https://box.s3.cn-north-1.amazonaws.com.cn"),
        (
            Endpoint("us-gov-west-1", fips=True),
            "box",
            "https://box.s3-fips.us-gov-west-1.amazonaws.com",
        ),
        (
            Endpoint(REGION, dualstack=True),
            "box",
            "https://box.s3.dualstack.eu-central-1.amazonaws.com",
        ),
        (Endpoint(REGION, "http://127.0.0.1:1/"), "box", "http://127.0.0.1:1/box"),
        (
            Endpoint(REGION, s3_url="https://minio.example.com"),
            "box",
            "https://minio.example.com/box",
        ),
    ],
)
def test_the_url_of_a_bucket(endpoint: Endpoint, name: str, url: str) -> None:
    assert Aws(endpoint, KEYS).bucket(name)._url() == url
    if endpoint.url is None and endpoint.s3_url is None:
        config = Config(use_fips_endpoint=endpoint.fips, use_dualstack_endpoint=endpoint.dualstack)
        client = boto3.Session("x", "x", region_name=endpoint.region).client("s3", config=config)
        client.meta.events.register("before-send.s3", _stop)
        with pytest.raises(StopIteration) as caught:
            client.get_object(Bucket=name, Key="k")
        assert caught.value.value == f"{url}/k", "as AWS's own tools have it"


def _stop(request: Any, **_: Any) -> None:
    raise StopIteration(request.url)


@pytest.mark.parametrize("url", ["http://me:hunter2@host:1", "https://hunter2@host"])
def test_an_endpoint_with_a_password_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL") as caught:
        Endpoint(REGION, url)
    assert "hunter2" not in str(caught.value)


def test_bootstrap_uses_the_configured_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with servers.moto() as url:
        shop = Shop(tmp_path / "shop", url, CONFIG.replace(ACCOUNT, "999999999999"))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        cipipe = Cli(shop, monkeypatch, capsys)
        assert cipipe("bootstrap", "--env", "dev") == 3
    assert (
        f"the credentials belong to account {ACCOUNT}, environment dev to 999999999999"
        in cipipe.err
    )
