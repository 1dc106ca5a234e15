"""Which errors of the system are the machine's, and what is said of them."""

import errno
import os
import tempfile

import pytest

from cipipe import machine


@pytest.mark.parametrize(
    ("number", "id"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EFBIG, "disk-full"),
        (errno.EROFS, "file-refused"),
        (errno.EACCES, "file-refused"),
        (errno.EPERM, "file-refused"),
        (errno.EMFILE, "machine-exhausted"),
        (errno.ENFILE, "machine-exhausted"),
        (errno.ENOMEM, "machine-exhausted"),
        (errno.EAGAIN, "machine-exhausted"),
    ],
)
def test_faults_of_the_machine(number: int, id: str) -> None:
    found = machine.fault(OSError(number, os.strerror(number), b"/srv/caf\xe9"))
    assert found is not None
    assert (found.id, found.exit_status) == (id, 4)
    assert os.strerror(number) in found.message
    assert found.where == os.fsdecode(b"/srv/caf\xe9")


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    found = machine.fault(caught.value)
    assert found is not None
    assert found.id == "no-temporary-folder"


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file"), OSError("odd"), BrokenPipeError()]
)
def test_anything_else_is_none(error: OSError) -> None:
    assert machine.fault(error) is None
