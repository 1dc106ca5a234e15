"""The dependency lock file of a root that has not committed one: it never stays in the root."""

import fcntl
from pathlib import Path

import pytest

from cipipe.tools.terraform.lock_file import NAME, LockFile, sweep


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, LockFile]:
    """The root, the data folder, and the lock file."""
    root, data = tmp_path / "infra", tmp_path / ".cipipe/terraform/dev/iac"
    root.mkdir()
    data.mkdir(parents=True)
    return root, data, LockFile(root, data)


def untracked(_: Path) -> bool:
    return False


def test_the_file_is_in_the_root_only_while_a_command_runs(
    places: tuple[Path, Path, LockFile],
) -> None:
    root, data, file = places
    with file.written():
        assert not file.path.exists()
        file.path.write_text("of init")
    assert list(root.iterdir()) == []
    for _ in range(2):
        with file.present():
            assert file.path.read_text() == "of init"
        assert list(root.iterdir()) == []
    assert [path.name for path in data.iterdir()] == ["dependencies.lock.hcl"]


def test_init_chooses_again_after_forget(places: tuple[Path, Path, LockFile]) -> None:
    _, _, file = places
    assert not file.forget()
    with file.written():
        file.path.write_text("of the first init")
    with file.written():
        assert file.path.read_text() == "of the first init"
    assert file.forget()
    with file.written():
        assert not file.path.exists()


def test_a_committed_file_is_not_touched(places: tuple[Path, Path, LockFile]) -> None:
    _, _, file = places
    file.path.write_text("committed")
    with file.written():
        pass
    with file.present():
        pass
    assert file.path.read_text() == "committed"


def test_a_failing_command_leaves_no_file(places: tuple[Path, Path, LockFile]) -> None:
    _, _, file = places

    def fail() -> None:
        file.path.write_text("half")
        raise KeyboardInterrupt

    for work in (file.written, file.present):
        with pytest.raises(KeyboardInterrupt), work():
            fail()
        assert not file.path.exists()


def test_two_runs_in_one_work_tree(
    places: tuple[Path, Path, LockFile],
) -> None:
    root, data, file = places
    other = LockFile(root, data.parent / "other")
    (data.parent / "other").mkdir()
    with file.written():
        file.path.write_text("of both")
        with other.written():
            pass
    with other.present():
        assert file.path.read_text() == "of both"
    assert list(root.iterdir()) == []


def _killed(file: LockFile, data: Path) -> None:
    """What a run leaves behind that is killed while Terraform runs."""
    file.path.write_text("left")
    (data / "lock-file-in").write_text(f"{file.path}\n")


def test_sweep_removes_the_file_of_a_killed_run(places: tuple[Path, Path, LockFile]) -> None:
    root, data, file = places
    _killed(file, data)
    sweep(data.parents[1], untracked)
    assert list(root.iterdir()) == []
    assert not (data / "lock-file-in").exists()
    file.path.write_text("of a person")
    sweep(data.parents[1], untracked)
    assert file.path.exists()


def test_sweep_keeps_a_file_that_was_committed(places: tuple[Path, Path, LockFile]) -> None:
    _, data, file = places
    _killed(file, data)
    sweep(data.parents[1], lambda path: path == file.path)
    assert file.path.exists()


def test_sweep_keeps_the_file_of_a_running_run(places: tuple[Path, Path, LockFile]) -> None:
    _, data, file = places
    with file.written():
        file.path.write_text("in use")
        sweep(data.parents[1], untracked)
        assert file.path.exists()
    _killed(file, data)
    with (data / "lock-file-in").open() as marker:
        fcntl.flock(marker, fcntl.LOCK_SH)
        sweep(data.parents[1], untracked)
        assert file.path.exists()


def test_sweep_removes_only_lock_files(places: tuple[Path, Path, LockFile]) -> None:
    root, data, _ = places
    (root / "main.tf").write_text("x")
    (data / "lock-file-in").write_text(f"{root / 'main.tf'}\n")
    sweep(data.parents[1], untracked)
    assert (root / "main.tf").exists()
    assert NAME == ".terraform.lock.hcl"
