"""A deployment whose record is current reads no file; if anything contradicts it, it reads them."""

from typing import Any

import msgspec
import pytest

from cipipe.model import Mode, Output
from cipipe.stages import dags
from cipipe.stages.context import StageResult
from cipipe.stages.dags.bucket import manifest
from cipipe.stages.dags.markers import patch
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Repository
from support.contexts import stage_context
from support.shop import BUCKET, CONFIG, DAG, LEDGER, OUTPUTS, REGION, Cli, Shop


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files git was asked for, each time."""
    asked: list[int] = []
    blobs = Repository.blobs

    def counted(self: Repository, entries: Any, *, keep: bool = False) -> dict[bytes, bytes]:
        wanted = list(entries)
        asked.append(len(wanted))
        return blobs(self, wanted, keep=keep)

    monkeypatch.setattr(Repository, "blobs", counted)
    return asked


def result(cipipe: Cli, *arguments: str) -> tuple[str, str]:
    (stage,) = cipipe.json("dags", "deploy", *arguments)["stages"]
    return stage["result"], stage["made"]


def test_what_is_current_is_not_read(shop: Shop, cipipe: Cli, read: list[int]) -> None:
    assert result(cipipe)[0] == "done"
    assert shop.record().data["outputs"] == ["cluster"]
    before = (shop.writes(), shop.record())
    read.clear()
    assert result(cipipe) == ("unchanged", "")
    assert cipipe("plan") == 0
    assert not any(read)
    assert (shop.writes(), shop.record()) == before


@pytest.mark.parametrize("how", ["changed", "deleted", "another version of the same"])
def test_what_others_did_is_restored(shop: Shop, cipipe: Cli, how: str) -> None:
    result(cipipe)
    before = shop.bodies()
    bucket = shop.aws.bucket(BUCKET)
    if how == "deleted":
        bucket.delete("dags/a.py")
    else:
        bucket.put("dags/a.py", b"x" if how == "changed" else before["dags/a.py"])
    assert result(cipipe)[0] == "done"
    assert shop.bodies() == before
    found = bucket.get("dags/a.py")
    assert found is not None
    assert shop.record().data["manifest"]["dags/a.py"]["version"] == found.version
    assert result(cipipe)[0] == "unchanged"


def test_names_that_a_url_has_to_encode(shop: Shop, cipipe: Cli) -> None:
    names = {
        "my dag.py",
        "a+b.sql",
        "50%.sql",
        "%20.sql",
        "caf\u00e9 #1?.sql",
        "a&b=c;d.sql",
        "~_-.sql",
        "'\"<>.sql",
    }
    shop.commit({f"dags/{name}": DAG.format(name) for name in names})
    assert result(cipipe)[1].startswith("10 uploaded")
    assert {f"dags/{name}" for name in names} <= set(shop.bodies())
    before = shop.writes()
    assert result(cipipe)[0] == "unchanged"
    assert {file["state"] for file in cipipe.json("dags", "status")["files"]} == {"ok"}
    assert shop.writes() == before
    shop.commit({f"dags/{name}": None for name in names})
    assert result(cipipe)[1].startswith("0 uploaded, 2 unchanged, 8 deleted")
    assert set(shop.bodies()) == {"dags/a.py", "dags/helper.py"}
    bucket = shop.aws.bucket(BUCKET)
    assert bucket.purge("dags/my dag.py") == bucket.purge("dags/a+b.sql") == 2


def test_another_version_of_cipipe_reads_and_patches_again(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may write values in another way than the version that wrote the manifest."""
    result(cipipe)
    literal = patch._literal
    monkeypatch.setattr(patch, "_literal", lambda *given: f"({literal(*given)})")
    monkeypatch.setattr(manifest, "__version__", "another")
    assert result(cipipe)[1].startswith("1 uploaded, 1 unchanged, 0 deleted")
    assert b'CLUSTER = ("prod")  # cipipe: cluster' in shop.bodies()["dags/a.py"]
    assert result(cipipe)[0] == "unchanged"


def test_if_anything_differs_everything_is_patched_again(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    result(cipipe)
    literal = patch._literal
    monkeypatch.setattr(patch, "_literal", lambda *given: f"({literal(*given)})")
    shop.aws.bucket(BUCKET).put("dags/helper.py", b"tampered")
    assert result(cipipe)[1].startswith("2 uploaded, 0 unchanged, 0 deleted")
    assert b'CLUSTER = ("prod")  # cipipe: cluster' in shop.bodies()["dags/a.py"]
    assert [file["state"] for file in cipipe.json("dags", "status")["files"]] == ["ok", "ok"]


def test_settings_that_resolve_differently_move_the_files(shop: Shop, cipipe: Cli) -> None:
    """The value of `{region}` is not in the fingerprint; `deploy` runs the stage anyway."""
    ledger = f'[ledger]\nbucket = "{LEDGER}"\n'
    config = (
        CONFIG.replace('source = "dags"', 'source = "dags"\nprefix = "dags/{region}/"') + ledger
    )
    shop.commit({"cipipe.toml": config})
    assert result(cipipe)[0] == "done"
    assert set(shop.bodies()) == {f"dags/{REGION}/a.py", f"dags/{REGION}/helper.py"}
    shop.commit({"cipipe.toml": config.replace(f'region = "{REGION}"', 'region = "eu-west-1"')})
    assert result(cipipe)[1].startswith("2 uploaded, 0 unchanged, 2 deleted")
    assert set(shop.bodies()) == {"dags/eu-west-1/a.py", "dags/eu-west-1/helper.py"}


def test_a_plan_and_a_deployment_consume_the_same_outputs(shop: Shop, cipipe: Cli) -> None:
    """Plugins may be in the source, and are not patched: markers in them count for neither."""
    settings = 'source = "dags"\nplugins = "dags/plugins"'
    plugin = "X = 'x'  # cipipe: dags_bucket\n"
    shop.commit(
        {"cipipe.toml": CONFIG.replace('source = "dags"', settings), "dags/plugins/p.py": plugin}
    )
    assert result(cipipe)[0] == "done"
    assert shop.record().data["outputs"] == ["cluster"]
    stages = {stage["name"]: stage["reason"] for stage in cipipe.json("plan")["stages"]}
    assert stages["dags"] == "unchanged"


CURRENT: dict[str, Any] = {
    "outputs": ["cluster"],
    "manifest": {"dags/a.py": {"sha256": "1" * 64, "version": "v"}},
}
SETTINGS = dags.Settings(source="dags", bucket="b")


def found(**changes: Any) -> dict[str, str] | None:
    """What a record proves to a run that differs from the one that wrote it in `changes`."""
    stage = Stage("dags", "dags", SETTINGS)
    context = stage_context(
        is_current=True, mode=Mode.DEPLOY, outputs={"cluster": Output(value="prod")}, stage=stage
    )
    data = {**CURRENT, "made_of": manifest.made_of(context, ["cluster"])}
    result = StageResult(data=data | changes.pop("data", {}))
    return manifest.proven(msgspec.structs.replace(context, **changes), result)


def test_what_a_record_proves() -> None:
    assert found() == {"dags/a.py": "1" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"is_current": False},
        {"mode": Mode.VERIFY},
        {"outputs": {}},
        {"outputs": {"cluster": Output(value="prod", sensitive=True)}},
        {"outputs": {"cluster": Output(value=None)}},
        {"outputs": {"cluster": Output(sensitive=True)}},
        {"outputs": {"cluster": Output(value="other")}},
        {"stage": Stage("dags", "dags", msgspec.structs.replace(SETTINGS, prefix="other/"))},
        {"stage": Stage("dags", "dags", msgspec.structs.replace(SETTINGS, bucket="other"))},
        {"data": {"made_of": None}},
        {"data": {"made_of": "0" * 64}},
        {"data": {"manifest": {}}},
        {"data": {"manifest": {**CURRENT["manifest"], "dags/b.py": manifest.UNCERTAIN}}},
    ],
    ids=str,
)
def test_what_makes_a_record_prove_nothing(changes: dict[str, Any]) -> None:
    assert found(**changes) is None


def test_files_are_read_if_the_record_does_not_name_the_outputs(
    shop: Shop, cipipe: Cli, read: list[int]
) -> None:
    """Older versions of cipipe wrote no outputs."""
    result(cipipe)
    held = shop.ledger.read(["dags"])["dags"]
    assert held is not None
    data = {key: value for key, value in held.record.data.items() if key != "outputs"}
    shop.ledger.write(msgspec.structs.replace(held.record, data=data), held)
    read.clear()
    assert result(cipipe)[0] == "done"
    assert any(read)
    assert shop.record().data["outputs"] == ["cluster"]
    read.clear()
    assert result(cipipe)[0] == "unchanged"
    assert not any(read)


def test_another_value_is_another_deployment(shop: Shop, cipipe: Cli) -> None:
    result(cipipe)
    shop.apply(**{**OUTPUTS, "cluster": Output(value="other")})
    assert result(cipipe)[1].startswith("1 uploaded, 1 unchanged")
    assert b'"other"' in shop.bodies()["dags/a.py"]
    shop.apply(**OUTPUTS)
    assert result(cipipe)[1].startswith("1 uploaded, 1 unchanged")


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({"cluster": Output(value=None)}, "dag-output-null"),
        ({}, "dag-output-unknown"),
        ({"cluster": Output(value=["a"])}, "dag-output-wrong-type"),
        ({"cluster": Output(value="s3cr3t-value", sensitive=True)}, "dag-output-sensitive"),
    ],
    ids=["null", "absent", "another type", "sensitive"],
)
def test_nothing_is_written_if_a_value_is_unusable(
    shop: Shop, cipipe: Cli, outputs: dict[str, Output], error: str
) -> None:
    kept = {name: output for name, output in OUTPUTS.items() if name != "cluster"}
    shop.apply(**kept, **outputs)
    before = shop.writes()
    for more in ((), ("--dry-run",)):
        assert cipipe("dags", "deploy", *more) == 4, (
            "what is wrong is in the files, and not on the command line"
        )
        assert error in cipipe.err
    assert shop.writes() == before
    assert "s3cr3t-value" not in cipipe.out + cipipe.err
    # The same after a deployment.
    shop.apply(**OUTPUTS)
    result(cipipe)
    shop.apply(**kept, **outputs)
    before = shop.writes()
    assert cipipe("dags", "deploy") == 4
    assert shop.writes() == before


def test_an_allowed_sensitive_value_is_not_in_the_ledger(shop: Shop, cipipe: Cli) -> None:
    shop.commit(
        {"dags/a.py": "from airflow import DAG\nTOKEN = 'x'  # cipipe: token (sensitive ok)\n"}
    )
    before = shop.writes()
    assert cipipe("dags", "deploy") == 4
    assert "dag-output-withheld" in cipipe.err
    assert shop.writes() == before
