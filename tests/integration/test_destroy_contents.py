"""What a destroy finds in buckets and repositories, and how it empties them: S3 and ECR of moto's,
no Terraform.
"""

from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.model import Environment
from cipipe.redact import Redactor
from cipipe.results import Preflight
from cipipe.stages import terraform
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.destroying import contents, emptying, preflight
from cipipe.stages.terraform.destroying.going import Going
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from support.contexts import stage_context
from support.recording import RecordingProxy

REGION = "eu-central-1"
URI = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/shop-dev-dbt"
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = '{"schemaVersion": 2, "mediaType": "%s", "config": {"digest": "sha256:%064d"}}'

# Names that mean something in XML or in a URL.
AWKWARD = ("a b/ü&<.csv", "a+b%20c?d", "']]>")


class Account:
    """A bucket with versions and a repository, and what a destroy of them finds."""

    def __init__(self, url: str) -> None:
        self.aws = Aws(Endpoint(REGION, url), Credentials("testing", "testing"))
        self.s3: Any = self.aws.client("s3")
        self.ecr: Any = self.aws.client("ecr")
        place = {"LocationConstraint": REGION}
        self.s3.create_bucket(Bucket="shop-dev-lake", CreateBucketConfiguration=place)
        self.s3.put_bucket_versioning(
            Bucket="shop-dev-lake", VersioningConfiguration={"Status": "Enabled"}
        )
        self.ecr.create_repository(repositoryName="shop-dev-dbt")
        self.lines: list[str] = []

    def context(self, **given: Any) -> StageContext[Any]:
        settings = terraform.Settings(root="infra", backend={"bucket": "states", "key": "k"})
        return stage_context(
            project="shop",
            environment_name="dev",
            environment=Environment(account_id="1" * 12, region=REGION, role_arn="arn"),
            stage=Stage("iac", "terraform", settings),
            aws=self.aws,
            redactor=Redactor(),
            line=self.lines.append,
            scratch=Path("/nonexistent"),
            ledger_bucket="ledger",
            **given,
        )

    def look(self, *going: Going, **given: Any) -> Preflight:
        found = Preflight()
        preflight.look(self.context(**given), found, going)
        return found

    def empty(self, *going: Going) -> list[Any]:
        result = StageResult()
        emptying.empty(self.context(empty=True), result, going)
        emptied: list[Any] = result.findings["destroy"]["emptied"]
        return emptied

    def put(self, key: str, owner: str | None = None) -> None:
        self.aws.bucket("shop-dev-lake").put(key, b"x", owner=owner)

    def push(self, number: int, *tags: str) -> None:
        for tag in tags:
            self.ecr.put_image(
                repositoryName="shop-dev-dbt",
                imageManifest=MANIFEST % (MEDIA_TYPE, number),
                imageTag=tag,
            )

    @property
    def versions(self) -> int:
        return len(list(self.aws.bucket("shop-dev-lake").versions("")))


def bucket(name: str = "shop-dev-lake", **attributes: Any) -> Going:
    return Going(
        address="aws_s3_bucket.it", type="aws_s3_bucket", attributes={"bucket": name, **attributes}
    )


def repository(**attributes: Any) -> Going:
    given = {
        "name": "shop-dev-dbt",
        "repository_url": URI,
        "arn": f"arn:aws:ecr:{REGION}:123456789012:repository/shop-dev-dbt",
        **attributes,
    }
    return Going(address="aws_ecr_repository.it", type="aws_ecr_repository", attributes=given)


@pytest.fixture
def account(endpoint: str) -> Account:
    return Account(endpoint)


def ids(found: Preflight) -> list[str]:
    return [blocker.id for blocker in found.blockers]


def test_what_stages_own_does_not_block(account: Account) -> None:
    account.put("dags/a.py", owner="shop/dev/dags")
    owned = frozenset({"s3://shop-dev-lake/dags/a.py"})
    assert ids(account.look(bucket(), owned=owned)) == []
    account.put("reports/a.csv")
    account.s3.delete_object(Bucket="shop-dev-lake", Key="reports/a.csv")
    found = account.look(bucket(), owned=owned)
    assert ids(found) == ["destroy-foreign-objects"], "a deleted object has versions, too"
    assert "2 versions of objects that no stage owns: reports/a.csv" in found.blockers[0].message
    lost = found.lost[-1]
    assert (lost.count, lost.versions, lost.unowned) == (1, 3, 2)


@pytest.mark.parametrize(
    ("attributes", "options"), [({}, {"empty": True}), ({"force_destroy": True}, {})]
)
def test_what_another_environment_owns_is_never_emptied(
    account: Account, attributes: dict[str, Any], options: dict[str, Any]
) -> None:
    account.put("reports/a.csv")
    account.put("dags/old.py", owner="shop/dev/removed")
    assert ids(account.look(bucket(**attributes), **options)) == []
    account.put("dags/a.py", owner="shop/prod/dags")
    found = account.look(bucket(**attributes), **options)
    assert ids(found) == ["destroy-others-objects"]
    assert "stage dags of shop's environment prod" in found.blockers[0].message
    assert account.versions == 3


def test_counting_stops_where_it_is_known_that_others_are_there(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_COUNTED", 3)
    for number in range(6):
        account.put(f"{number}.csv")
    found = account.look(bucket())
    assert found.lost[-1].more
    assert "more than 3 versions" in found.blockers[0].message
    owned = frozenset(f"s3://shop-dev-lake/{number}.csv" for number in range(6))
    assert account.look(bucket(), owned=owned).lost[-1].count == 6, "one more could be another's"


def test_a_bucket_that_is_gone_blocks_nothing(account: Account) -> None:
    gone = bucket("shop-dev-gone")
    assert account.look(gone).blockers == []
    assert account.empty(gone) == []


def test_what_cannot_be_listed_may_not_be_empty(endpoint: str) -> None:
    Account(endpoint)
    with RecordingProxy(endpoint) as proxy:
        account = Account.__new__(Account)
        account.aws = Aws(Endpoint(REGION, proxy.url), Credentials("testing", "testing"))
        account.lines = []
        proxy.before = lambda asked: "versions" in asked.path or asked.operation == "ListImages"
        found = account.look(bucket(), repository())
        assert ids(found) == ["destroy-unreadable", "destroy-unreadable"]
        found = account.look(bucket(force_destroy=True), repository(force_delete=True))
        assert ids(found) == []
        assert [warning.id for warning in found.warnings] == ["destroy-unreadable"] * 2


def test_images_that_stages_delete_do_not_block(account: Account) -> None:
    account.push(1, "ours", "latest")
    removed = frozenset({f"{URI}:ours", f"{URI}:latest"})
    assert ids(account.look(repository(), removed=lambda: removed)) == []
    account.push(2, "by-hand")
    account.push(1, "kept")
    found = account.look(repository(), removed=lambda: removed)
    assert ids(found) == ["destroy-foreign-images"]
    assert "2 images that no stage deletes" in found.blockers[0].message
    assert "by-hand" in found.blockers[0].message
    assert ids(account.look(repository(force_delete=True), removed=lambda: removed)) == []


def test_every_version_of_every_name_is_deleted(account: Account) -> None:
    for key in AWKWARD:
        account.put(key)
        account.put(key)
        account.aws.bucket("shop-dev-lake").delete(key)
    before = account.versions
    assert before == 3 * len(AWKWARD)
    assert account.empty(bucket()) == [
        {"name": "s3://shop-dev-lake", "sort": "version", "count": before}
    ]
    assert account.versions == 0


def test_a_bucket_without_versions_is_emptied(account: Account) -> None:
    place = {"LocationConstraint": REGION}
    account.s3.create_bucket(Bucket="shop-dev-logs", CreateBucketConfiguration=place)
    logs = account.aws.bucket("shop-dev-logs")
    for key in AWKWARD:
        logs.put(key, b"x")
    account.empty(bucket("shop-dev-logs"))
    assert list(logs.versions("")) == []


def test_a_message_names_some_objects(account: Account) -> None:
    for number in range(12):
        account.put(f"{number:02}.csv")
        account.put(f"{number:02}.csv")
    (blocker,) = account.look(bucket()).blockers
    assert blocker.message == (
        "s3://shop-dev-lake has 24 versions of objects that no stage owns: "
        + ", ".join(f"{number:02}.csv" for number in range(10))
        + ", …"
    )


def test_progress_is_reported_while_it_deletes(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emptying, "AT_ONCE", 2)
    monkeypatch.setattr(emptying, "_REPORTED", 4)
    for number in range(9):
        account.put(f"{number}.csv")
    account.empty(bucket())
    assert [line for line in account.lines if "so far" in line] == [
        "s3://shop-dev-lake: 4 versions deleted so far",
        "s3://shop-dev-lake: 8 versions deleted so far",
    ]
    assert account.lines[-1] == "emptied s3://shop-dev-lake: 9 versions deleted"


def test_nothing_is_emptied_that_terraform_empties_or_that_is_not_going(account: Account) -> None:
    account.put("a.csv")
    account.push(1, "by-hand")
    assert account.empty(bucket(force_destroy=True), repository(force_delete=True)) == []
    assert account.empty() == []
    assert account.versions == 1


def test_an_image_that_ecr_keeps_is_an_error(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index is deleted before its images; where nothing of that helps, it is said."""
    account.push(1, "index")
    account.push(2, "child")
    digests = {
        image["imageTag"]: image["imageDigest"]
        for image in account.ecr.list_images(repositoryName="shop-dev-dbt")["imageIds"]
    }
    call = account.aws.call
    stuck = {"index"}

    def referenced(service: str, operation: str, /, **arguments: Any) -> Any:
        if operation != "batch_delete_image":
            return call(service, operation, **arguments)
        wanted = {image["imageDigest"] for image in arguments["imageIds"]}
        refused = digests["child"]
        free = [{"imageDigest": one} for one in wanted if one != refused]
        if refused in wanted and ("index" in stuck or free):
            stuck.discard("index")
            failures = [
                {
                    "imageId": {"imageDigest": refused},
                    "failureCode": "ImageReferencedByManifestList",
                    "failureReason": "it is in an index",
                }
            ]
            if free:
                call(service, operation, repositoryName="shop-dev-dbt", imageIds=free)
            return {"failures": failures}
        return call(service, operation, **arguments)

    monkeypatch.setattr(account.aws, "call", referenced)
    assert account.empty(repository()) == [{"name": URI, "sort": "image", "count": 2}]
    assert account.ecr.list_images(repositoryName="shop-dev-dbt")["imageIds"] == []

    account.push(2, "child")
    digests["child"] = account.ecr.list_images(repositoryName="shop-dev-dbt")["imageIds"][0][
        "imageDigest"
    ]
    stuck.add("index")
    with pytest.raises(StageError, match="another image refers to it"):
        account.empty(repository())
