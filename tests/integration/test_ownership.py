"""Two environments, projects or stages that get to one place which the configuration does not tell:
an output is the bucket.

Real git, and S3 as moto has it. What is another's is never overwritten or deleted, in no version.
"""

import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cipipe.ledger import Ledger
from cipipe.model import Output, State
from cipipe.tools.aws.s3 import Bucket, Version
from support.shop import ACCOUNT, BUCKET, CONFIG, DAG, LEDGER, OUTPUTS, REGION, Cli, Shop

PROD = f"""
[environments.prod]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
protected = true
"""
BOTH = CONFIG.replace('key = "k"', 'key = "{environment}"') + PROD


class Shared(Shop):
    """Two environments whose Terraform gives one bucket."""

    def __init__(self, root: Path, url: str, config: str = BOTH) -> None:
        super().__init__(root, url, config)
        self.ledgers = {
            "dev": self.ledger,
            "prod": Ledger(self.aws.bucket(LEDGER), "ledger/shop/prod/"),
        }
        self.ledger = self.ledgers["prod"]
        self.apply(**OUTPUTS)
        self.ledger = self.ledgers["dev"]

    def now(self) -> dict[str, str]:
        """What every key of the bucket says of its owner."""
        bucket = self.aws.bucket(BUCKET)
        return {key: str(head.owner) for key in bucket.keys("") if (head := bucket.head(key))}

    def versions(self, owner: str) -> set[Version]:
        """The versions that are an owner's, with whether they are the newest."""
        bucket = self.aws.bucket(BUCKET)
        found = [version for version in bucket.versions("") if not version.deleted]
        return {v for v in found if (head := bucket.head(v.key, v.id)) and head.owner == owner}


@pytest.fixture
def shop(tmp_path: Path, moto_server: str) -> Shared:
    return Shared(tmp_path / "shop", moto_server)


def refused(cipipe: Cli, id: str, *arguments: str) -> str:
    assert cipipe(*arguments) == 5, cipipe.out + cipipe.err
    assert f"[{id}]" in cipipe.err
    return cipipe.err


RUNS = [["run", "dags", "--yes"], ["dags", "deploy", "--yes"], ["dags", "deploy", "--dry-run"]]


@pytest.mark.parametrize("command", RUNS, ids=" ".join)
def test_the_second_environment_of_a_bucket_is_refused(
    shop: Shared, cipipe: Cli, command: list[str]
) -> None:
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    before = shop.versions("shop/dev/dags")
    error = refused(cipipe, "dags-foreign-object", *command, "--env", "prod")
    assert "s3://dags-bucket/dags/a.py" in error
    assert "stage dags of shop's environment dev" in error
    assert "stage dags of shop's environment prod" in error
    assert shop.versions("shop/dev/dags") == before


def test_other_files_in_the_same_folder_are_refused_too(shop: Shared, cipipe: Cli) -> None:
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.commit({"dags/a.py": None, "dags/helper.py": None, "dags/other.py": DAG.format("other")})
    refused(cipipe, "dags-foreign-object", "run", "dags", "--env", "prod", "--yes")
    assert set(shop.now()) == {"dags/a.py", "dags/helper.py"}


def test_a_folder_that_holds_the_other_environments_folder(
    tmp_path: Path,
    moto_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = (
        '\n[environments.dev.values]\nfolder = "dags/"\n'
        '[environments.prod.values]\nfolder = "dags/live/"\n'
    )
    config = BOTH.replace('source = "dags"', 'source = "dags"\nprefix = "{values.folder}"') + values
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    shop = Shared(tmp_path / "shop", moto_server, config)
    cipipe = Cli(shop, monkeypatch, capsys)
    assert cipipe("run", "dags", "--env", "prod", "--yes") == 0, cipipe.err
    refused(cipipe, "dags-foreign-object", "run", "dags", "--env", "dev")
    assert set(shop.now().values()) == {"shop/prod/dags"}


def test_destroying_one_leaves_what_is_the_others_now(shop: Shared, cipipe: Cli) -> None:
    """As an administrator's mistake makes it: dev's record names keys that are prod's by now."""
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    bucket = shop.aws.bucket(BUCKET)
    bucket.put("dags/a.py", b"prod's", owner="shop/prod/dags")
    before = shop.versions("shop/prod/dags")
    shop.ledger.write_outputs("iac", OUTPUTS)
    assert purge(shop, cipipe) == 5
    assert "[dags-foreign-object]" in cipipe.err
    assert "shop's environment prod" in cipipe.err
    assert shop.versions("shop/prod/dags") == before
    assert {version.key for version in shop.versions("shop/dev/dags")} == {
        "dags/a.py",
        "dags/helper.py",
    }


def purge(shop: Shared, cipipe: Cli) -> int:
    """Destroy without Terraform, which these tests do not start: the record says that its part was
    destroyed.
    """
    held = shop.ledger.read(["iac"])["iac"]
    assert held is not None
    shop.ledger.write(msgspec.structs.replace(held.record, state=State.DESTROYED), held)
    return cipipe("destroy", "--env", "dev", "--confirm", "dev")


def test_an_older_version_of_anothers_survives_a_destroy(shop: Shared, cipipe: Cli) -> None:
    bucket = shop.aws.bucket(BUCKET)
    bucket.put("dags/a.py", b"prod's", owner="shop/prod/dags")
    bucket.delete("dags/a.py")  # prod gave it up, and can go back to it
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    assert purge(shop, cipipe) == 0, cipipe.err
    assert {version.key for version in shop.versions("shop/prod/dags")} == {"dags/a.py"}
    assert shop.versions("shop/dev/dags") == set()
    assert bucket.keys("") == [], "what was deleted does not come back"


def test_a_key_that_became_anothers_is_not_pruned(shop: Shared, cipipe: Cli) -> None:
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.aws.bucket(BUCKET).put("dags/helper.py", b"prod's", owner="shop/prod/dags")
    shop.commit({"dags/helper.py": None})
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    assert shop.now()["dags/helper.py"] == "shop/prod/dags"
    assert set(shop.record().data["manifest"]) == {"dags/a.py"}


def test_rolling_back_over_anothers_object_is_refused(shop: Shared, cipipe: Cli) -> None:
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.commit({"dags/helper.py": None})
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.aws.bucket(BUCKET).put("dags/helper.py", b"prod's", owner="shop/prod/dags")
    refused(cipipe, "dags-foreign-object", "dags", "rollback", "--env", "dev")
    assert shop.bodies()["dags/helper.py"] == b"prod's"


def test_what_another_writes_while_this_one_uploads_is_not_overwritten(
    shop: Shared, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Bucket.put

    def raced(self: Bucket, key: str, body: bytes, **given: Any) -> Any:
        if key == "dags/a.py" and not self.head(key):
            original(self, key, b"prod's", owner="shop/prod/dags")
        return original(self, key, body, **given)

    monkeypatch.setattr(Bucket, "put", raced)
    refused(cipipe, "dags-foreign-object", "run", "dags", "--env", "dev")
    assert shop.bodies()["dags/a.py"] == b"prod's"


def test_a_renamed_stage_goes_on_with_its_objects(shop: Shared, cipipe: Cli) -> None:
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.commit({"cipipe.toml": BOTH.replace("[stages.dags]", "[stages.airflow]")})
    assert cipipe("run", "airflow", "--env", "dev") == 0, cipipe.err
    assert set(shop.record("airflow").data["manifest"]) == {"dags/a.py", "dags/helper.py"}


def test_objects_without_an_owner(shop: Shared, cipipe: Cli) -> None:
    """Those of an earlier version, which our record names, and those that were there before cipipe,
    which it does not.
    """
    bucket = shop.aws.bucket(BUCKET)
    bucket.put("dags/helper.py", b"# helper 1\n")
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    assert "dags/helper.py is there already, and not from this stage" in cipipe.err
    assert set(shop.now().values()) == {"shop/dev/dags"}
    bucket.put("dags/helper.py", b"# helper 1\n")
    assert cipipe("dags", "deploy", "--env", "dev") == 0, cipipe.err
    shop.commit({"dags/helper.py": None})
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    assert set(shop.now()) == {"dags/a.py"}


def test_two_projects_with_one_ledger_prefix(
    tmp_path: Path, shop: Shared, cipipe: Cli, moto_server: str
) -> None:
    shared = BOTH + '\n[ledger]\nprefix = "ledger/{environment}/"\n'
    shop.commit({"cipipe.toml": shared})
    shop.ledger = Ledger(shop.aws.bucket(LEDGER), "ledger/dev/")
    shop.apply(**OUTPUTS)
    assert cipipe("run", "dags", "--env", "dev") == 0, cipipe.err
    shop.commit({"cipipe.toml": shared.replace('name = "shop"', 'name = "blog"')})
    for command in (
        ["run"],
        ["plan"],
        ["status"],
        ["destroy", "--confirm", "dev"],
        ["dags", "status"],
    ):
        error = refused(cipipe, "ledger-foreign-record", *command, "--env", "dev")
        assert "shop's environment dev" in error


# --- whatever is done ----------------------------------------------------------------------------


class Neighbour:
    """The other environment. It writes over what is there and beside it, and deletes, keeping its
    versions.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._written: dict[tuple[str, str], bytes] = {}
        self._deleted: set[str] = set()

    def take(self, number: int) -> None:
        for key in ("dags/helper.py", f"dags/prod{number}.py"):
            body = f"prod {number}".encode()
            written = self._bucket.put(key, body, owner="shop/prod/dags")
            assert written is not None
            self._written[key, str(written.version)] = body
            self._deleted.discard(key)

    def give_up(self) -> None:
        for key in {key for key, _ in self._written} - self._deleted:
            self._bucket.delete(key)
            self._deleted.add(key)

    def check(self, action: str) -> None:
        """Every version is there, and what was not deleted is what the key holds."""
        for (key, version), body in self._written.items():
            stored = self._bucket.get(key, version)
            assert stored is not None, f"{action} deleted a version of {key}"
            assert stored.body == body
            if key not in self._deleted:
                head = self._bucket.head(key)
                assert head is not None, f"{action} deleted {key}"
                assert head.owner == "shop/prod/dags", f"{action} overwrote {key}"


def ours(action: str, number: int, shop: Shared, cipipe: Cli) -> None:
    """Something that dev does: it succeeds, or is refused."""
    if action == "destroy":
        assert purge(shop, cipipe) in {0, 5}, cipipe.err
        shop.apply(**OUTPUTS)
        return
    if action == "elsewhere":
        shop.apply(**OUTPUTS | {"dags_bucket": Output(value="second")})
    helper = shop.repo.root / "dags/helper.py"
    files: dict[str, dict[str, str | bytes | None]] = {
        "edit": {"dags/helper.py": f"# {number}\n"},
        "remove": {"dags/helper.py": None} if helper.exists() else {},
        "add": {f"dags/new{number}.py": DAG.format(number)},
    }
    shop.commit(files.get(action, {}))
    if action == "rollback":
        assert cipipe("dags", "rollback", "--env", "dev") in {0, 4, 5}, cipipe.err
    else:
        assert cipipe("dags", "deploy", "--env", "dev") in {0, 5}, cipipe.err
    shop.apply(**OUTPUTS)


ACTIONS = st.lists(
    st.sampled_from(
        ["deploy", "edit", "remove", "add", "rollback", "destroy", "elsewhere", "take", "give up"]
    ),
    min_size=3,
    max_size=6,
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=ACTIONS)
def test_nothing_of_the_other_environment_is_ever_touched(
    actions: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    moto_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    shop = Shared(tmp_path_factory.mktemp("any") / "shop", moto_server)
    shop.aws.call(
        "s3",
        "create_bucket",
        Bucket="second",
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    cipipe, neighbour = Cli(shop, monkeypatch, capsys), Neighbour(shop.aws.bucket(BUCKET))
    for number, action in enumerate(actions):
        if action == "take":
            neighbour.take(number)
        elif action == "give up":
            neighbour.give_up()
        else:
            ours(action, number, shop, cipipe)
        neighbour.check(action)
