"""What counts as a Git LFS pointer: the spec's own rules."""

import pytest

from cipipe.tools.git.lfs import Pointer, pointer

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
PLAIN = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("git-lfs.github.com", "hawser.github.com"),
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n"),
        f"\n{PLAIN}",
        PLAIN.replace("oid", "note made by hand\noid"),
    ],
)
def test_a_pointer(text: str) -> None:
    assert pointer(text.encode()) == Pointer(OID, 12345)


def test_a_pointer_with_extensions_names_the_original_file() -> None:
    extended = PLAIN.replace(
        "oid", f"ext-0-fold sha256:{'a' * 64}\next-1-pack sha256:{'b' * 64}\noid"
    )
    assert pointer(extended.encode()) == Pointer(OID, 12345, "a" * 64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version https://git-lfs.github.com/spec/v1\n",
        PLAIN.replace("spec/v1", "spec/v9"),
        PLAIN.replace("size 12345", "size many"),
        PLAIN.replace("sha256:", "md5:"),
        PLAIN.replace(OID, OID[:-1]),
        f"# About pointers\n{PLAIN}",
        f"{PLAIN}\nand more text\n\n",
        PLAIN.replace("oid", f"ext-0-x {'y' * 1000}\noid"),
    ],
)
def test_other_files_are_not_pointers(text: str) -> None:
    assert pointer(text.encode()) is None
