"""`.dockerignore` as Docker's own client reads it: the real `docker` command, with generated
patterns.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cipipe.errors import UsageError
from cipipe.tools.docker import dockerignore
from support.docker_client import Client, client

FILES = (
    *(
        "a",
        "b.md",
        "ab",
        "a.b",
        "dir/a",
        "dir/b.md",
        "dir/sub/a",
        "dir/sub/b.md",
        "dir/sub/deep/a",
        "x/dir/a",
    ),
    *(
        "x/y/dir/ab",
        "x/y/b",
        "x/y/z/sub/a",
        "#h",
        "!n",
        "with space",
        "[b]",
        "a*b",
        "é",
        "日本.md",
        ".hidden/a",
        "..a",
    ),
)
ALWAYS = {"Dockerfile", ".dockerignore"}

PIECES = st.sampled_from(
    (
        *(
            "a",
            "b",
            "ab",
            "dir",
            "sub",
            "deep",
            "x",
            "y",
            ".md",
            "é",
            ".hidden",
            "*",
            "**",
            "***",
            "?",
            "/",
            "/",
            "/",
            "//",
        ),
        *(
            ".",
            "..",
            "./",
            "../",
            "[ab]",
            "[^a]",
            "[a-c]",
            "[*]",
            "[!a]",
            "[[:alpha:]]",
            "^",
            "$",
            "(",
            ")",
            "+",
            "{",
        ),
        *("\\#", "\\*", "\\!", "\\?", "\\[", "\\\\", "!", "#", " ", "\t", "]"),
    )
)
LINES = st.lists(st.lists(PIECES, min_size=1, max_size=6).map("".join), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = shutil.which("docker")
    if found is None:
        message = "docker is not here, needed to compare with; run scripts/setup test"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with client(Path(found), tmp_path_factory.mktemp("docker")) as made:
        yield made


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    for name in (*FILES, "Dockerfile"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("FROM scratch\n")
    return folder


@given(
    lines=LINES,
    taken_back=st.lists(st.booleans(), min_size=5, max_size=5),
    start=st.sampled_from(["", "\ufeff"]),
)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_same_files_are_left_out(
    docker: Client, context: Path, lines: list[str], taken_back: list[bool], start: str
) -> None:
    """Clients before 23 look at one folder above a file only, and escape less: they are asked
    less.
    """
    written = [f"!{line}" if back else line for line, back in zip(lines, taken_back, strict=False)]
    if not docker.is_current:
        written = [line for line in written if not set("!()+{") & set(line)]
    body = (start + "\n".join(written)).encode()

    (context / ".dockerignore").write_bytes(body + _every_folder(docker))
    theirs = docker.sent(context)
    try:
        ours = set(FILES) - dockerignore.ignored(dockerignore.patterns(body), FILES)
    except UsageError:
        ours = None

    assert ours == (None if theirs is None else theirs - ALWAYS)


def _every_folder(docker: Client) -> bytes:
    """Exceptions that name no file, and have the classic builder's client look into each folder,
    as BuildKit's does.
    """
    folders = sorted({str(PurePosixPath(name).parent) for name in FILES} - {"."})
    return "".join(f"\n!{folder}/never" for folder in folders if docker.is_current).encode()
