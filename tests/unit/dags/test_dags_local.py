"""`cipipe dags patch` on folders: all of it or nothing, and never into the source."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cipipe.cli import group
from cipipe.cli.console import Console
from cipipe.errors import ProblemsError, RefusedError, UsageError
from cipipe.redact import MASK
from cipipe.stages.dags.local import patch_folder, read_outputs

DOCUMENT = {
    "cluster": {"sensitive": False, "type": "string", "value": "prod"},
    "token": {"sensitive": True, "type": "string", "value": "hunter22"},
}
DAG = b'from airflow import DAG\nCLUSTER = "local"  # cipipe: cluster\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    (folder / "sql").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "x.py").write_bytes(DAG)
    (folder / "sql" / "a.sql").write_bytes(b"select 1\r\n")
    (folder / ".airflowignore").write_bytes(b"sql\n")
    (folder / "tests" / "test_x.py").write_bytes(DAG)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps(DOCUMENT))
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_patched_and_other_files_are_written(source: Path, outputs: Path, tmp_path: Path) -> None:
    before = contents(source)
    result = patch_folder(source, outputs, tmp_path / "build" / "dags")
    assert contents(tmp_path / "build" / "dags") == {
        "x.py": DAG.replace(b"local", b"prod"),
        "sql/a.sql": b"select 1\r\n",
        ".airflowignore": b"sql\n",
    }
    assert contents(source) == before
    assert result.files == 3
    (replacement,) = result.replacements
    assert (replacement.file, replacement.line, replacement.new) == (
        str(source / "x.py"),
        2,
        '"prod"',
    )
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["dags"]


def test_again_into_the_same_folder(source: Path, outputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patch_folder(source, outputs, out)
    (source / "y.py").write_bytes(b"")
    patch_folder(source, outputs, out)
    assert set(contents(out)) == {"x.py", "y.py", "sql/a.sql", ".airflowignore"}


def test_a_problem_writes_nothing(source: Path, outputs: Path, tmp_path: Path) -> None:
    (source / "y.py").write_bytes(b"A = 1  # cipipe: nope\n")
    with pytest.raises(ProblemsError) as caught:
        patch_folder(source, outputs, tmp_path / "out")
    assert caught.value.problems[0].where == f"{source / 'y.py'}:1"
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_what_was_there(
    source: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    patch_folder(source, outputs, out)
    before = contents(out)
    (source / "x.py").write_bytes(DAG + b"# changed\n")

    def full(path: Path, body: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match="No space") as caught:
            patch_folder(source, outputs, out)
    assert (caught.value.id, caught.value.where) == ("dags-out-unwritable", str(out))
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dags", "out", "outputs.json"]


def test_the_old_folder_is_restored_if_the_new_one_cannot_replace_it(
    source: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    patch_folder(source, outputs, out)
    before = contents(out)
    rename = Path.rename

    def once_less(path: Path, target: Path) -> Path:
        if path.name == "new":
            # As for a mount point.
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    (source / "x.py").write_bytes(DAG + b"# changed\n")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", once_less)
        with pytest.raises(UsageError, match="busy"):
            patch_folder(source, outputs, out)
    assert contents(out) == before


def test_a_path_through_a_missing_folder(source: Path, outputs: Path, tmp_path: Path) -> None:
    # The second time, the folder has to be recognized as the first one's.
    for _ in range(2):
        patch_folder(source, outputs, tmp_path / "o1" / "x" / ".." / ".." / "o1")
        assert (tmp_path / "o1" / "x.py").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dags", "o1", "outputs.json"]


def test_a_link_to_the_target_stays_one(source: Path, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    patch_folder(source, outputs, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x.py").exists()


@pytest.mark.parametrize("out", ["outputs.json/x", "loop/x", "here", "n" * 300])
def test_targets_that_are_impossible(
    source: Path, outputs: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError) as caught:
        patch_folder(source, outputs, tmp_path / out)
    assert caught.value.id == "dags-out-unwritable"
    assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dags",
        "here",
        "loop",
        "outputs.json",
    ]


def test_a_source_that_cannot_be_read(
    source: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(path: str | Path) -> object:
        if str(path).endswith("sql"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", closed)
        with pytest.raises(UsageError, match="Permission denied") as caught:
            patch_folder(source, outputs, tmp_path / "out")
    assert (caught.value.id, caught.value.where) == ("dags-source-unreadable", str(source))
    assert str(source / "sql") in caught.value.message


@pytest.mark.parametrize("out", ["dags", "dags/out", "."])
def test_source_and_target_must_be_apart(
    source: Path, outputs: Path, tmp_path: Path, out: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        patch_folder(source, outputs, tmp_path / out)
    assert caught.value.id == "dags-out-in-source"


def test_a_link_to_the_source_is_the_source(source: Path, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(RefusedError) as caught:
        patch_folder(source, outputs, tmp_path / "link" / "out")
    assert caught.value.id == "dags-out-in-source"


def test_foreign_files_are_left_alone(source: Path, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_bytes(b"years of work")
    with pytest.raises(RefusedError) as caught:
        patch_folder(source, outputs, tmp_path / "home")
    assert caught.value.id == "dags-out-not-empty"
    assert contents(tmp_path / "home") == {"thesis.txt": b"years of work"}


def test_a_file_in_the_way(source: Path, outputs: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        patch_folder(source, outputs, outputs)
    assert caught.value.id == "dags-out-not-empty"


def test_links_in_the_source_are_reported(source: Path, outputs: Path, tmp_path: Path) -> None:
    (source / "link.py").symlink_to("x.py")
    (source / "folder").symlink_to("sql")
    with pytest.raises(ProblemsError) as caught:
        patch_folder(source, outputs, tmp_path / "out")
    assert caught.value.id == "dags-files-refused"
    assert sorted(found.where for found in caught.value.problems) == [
        str(source / "folder"),
        str(source / "link.py"),
    ]


def test_names_that_are_not_utf_8_are_reported(source: Path, outputs: Path, tmp_path: Path) -> None:
    (source / "é.py").write_bytes(DAG)
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.py")).write_bytes(DAG)
    with pytest.raises(ProblemsError) as caught:
        patch_folder(source, outputs, tmp_path / "out")
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-file-name", f"{source}/\\xff.py")
    ]
    assert not (tmp_path / "out").exists()


def test_control_characters_in_names_are_escaped(
    source: Path, outputs: Path, tmp_path: Path
) -> None:
    (source / "a\x1b[2J\n.py").write_bytes(DAG)
    arguments = ["--source", str(source), "--outputs", str(outputs), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(group, ["dags", "patch", *arguments], obj=Console({}))
    assert result.exit_code == 0
    # An escape sequence could rewrite the screen.
    assert "\x1b" not in result.output
    assert "a\\x1b[2J\\n.py:2: CLUSTER" in result.output


def test_a_missing_source(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        patch_folder(tmp_path / "nope", outputs, tmp_path / "out")
    assert caught.value.id == "dags-source-missing"


def test_sensitive_values_are_masked(source: Path, outputs: Path, tmp_path: Path) -> None:
    (source / "y.py").write_bytes(b'A = ""  # cipipe: token (sensitive ok)\n')
    result = patch_folder(source, outputs, tmp_path / "out")
    assert b"hunter22" in (tmp_path / "out" / "y.py").read_bytes()
    assert "hunter22" not in repr(result)
    assert MASK in repr(result)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_outputs_as_shells_write_them(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "o.json"
    file.write_bytes(json.dumps(DOCUMENT).encode(encoding))
    assert read_outputs(file)["cluster"].value == "prod"


@pytest.mark.parametrize(
    "text",
    [
        *("", "nope", "[]", '"prod"', '{"cluster": "prod"}', '{"a": {"value": 1, "sensitive": 1}}'),
        "[" * 100_000,
        *('{"a": {"value": NaN}}', '{"a": {"value": [-Infinity]}}'),
    ],
)
def test_files_that_are_no_outputs(tmp_path: Path, text: str) -> None:
    file = tmp_path / "o.json"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_outputs(file)
    assert caught.value.id == "dags-outputs-unreadable"


def test_missing_outputs_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_outputs(tmp_path / "nope.json")
    assert caught.value.id == "dags-outputs-unreadable"
