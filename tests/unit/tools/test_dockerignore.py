"""Which files a `.dockerignore` leaves out: Docker's documentation, and the tables of its tests."""

import io
import tarfile
import time

import pytest

from cipipe.errors import UsageError
from cipipe.tools.docker import client as docker
from cipipe.tools.docker import dockerignore
from cipipe.tools.git.client import Entry


def kept(ignore: bytes, *files: str) -> set[str]:
    return set(files) - dockerignore.ignored(dockerignore.patterns(ignore), files)


@pytest.mark.parametrize(
    ("ignore", "files", "left"),
    [
        (
            "**/private",
            ("private/id", "a/private/id", "a/b/c/d/private/id", "a/privateer"),
            {"a/privateer"},
        ),
        ("**/cache", ("cache", "a/cache", "mycache"), {"mycache"}),
        ("src/**/gen", ("src/gen/x", "src/a/gen/x", "src/a/b/gen", "gen/x"), {"gen/x"}),
        ("**.pem", ("key.pem", "a/key.pem", "a/key.pem.pub"), {"a/key.pem.pub"}),
        ("a**b", ("ab", "a/b", "axb", "a/x/b"), {"axb"}),
        ("docs/**", ("docs", "docs/a", "docs/a/b"), {"docs"}),
        ("docs**", ("docs", "docsify", "a/docs"), {"a/docs"}),
        ("**", ("a", "a/b"), set()),
        ("*", ("a", "a/b", ".env"), set()),
        ("*.log", ("x.log", "a/x.log"), {"a/x.log"}),
        ("*/x", ("x", "a/x/y", "a/b/x"), {"x", "a/b/x"}),
        ("?.txt", ("a.txt", "ab.txt", "é.txt"), {"ab.txt"}),
        ("/build/", ("build/x", "a/build/x"), {"a/build/x"}),
        ("./a/./b//c/../d", ("a/b/d", "a/b/c"), {"a/b/c"}),
        ("../a", ("a",), {"a"}),
        ("  spaced \t", ("spaced", "x"), {"x"}),
        ("# a comment\n #no comment", ("# a comment", "#no comment"), {"# a comment"}),
        ("\\#hash\n\\!bang\na\\*b", ("#hash", "!bang", "a*b", "axb"), {"axb"}),
        ("a\r\nb\r\n", ("a", "b", "c"), {"c"}),
        ("\ufefffirst\n", ("first", "x"), {"x"}),
        ("[a-c]x\n[^m-p]y", ("ax", "dx", "qy", "my"), {"dx", "my"}),
        ("[[:digit:]]*\nv\\d", ("1a", "a1", "v7", "vd"), {"a1", "vd"}),
        ("a.|)$(}+{b", ("a.|)$(}+{b", "ax"), {"ax"}),
        (
            "{{cookiecutter.name}}/*.md\nx|y\n*\\|z",
            ("{{cookiecutter.name}}/a.md", "x|y", "a|z", "x"),
            {"x"},
        ),
        ("*\n!keep", ("keep/a/b", "keep", "x"), {"keep/a/b", "keep"}),
        ("*\n!**/*.py", ("a.py", "x/y/b.py", "x/y/b.pyc"), {"a.py", "x/y/b.py"}),
        ("docs\n!docs/README.md", ("docs/a", "docs/README.md"), {"docs/README.md"}),
        ("**\n!a/b\na/b/c", ("a/b/c", "a/b/d", "a/x"), {"a/b/d"}),
        ("!a\na", ("a",), set()),
        ("! a \na\n!  a", ("a",), {"a"}),
        (".", ("a",), {"a"}),
        ("\n\n   \n", ("a",), {"a"}),
    ],
)
def test_ignored_files(ignore: str, files: tuple[str, ...], left: set[str]) -> None:
    assert kept(ignore.encode(), *files) == left


def test_names_that_are_not_utf8() -> None:
    name = b"caf\xe9.txt".decode(errors="surrogateescape")
    assert kept(b"caf?.txt", name) == set()
    assert kept(b"caf\xe9.txt", name, "x") == {"x"}
    assert kept(b"**.txt", name) == set()


@pytest.mark.parametrize(
    "line", ["!", "a[", "[]", "a\\", "[z-a]", "[[:nope:]]", "src\\build", "a|*", "*{2}"]
)
def test_a_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        dockerignore.patterns(f"fine\n{line}\n".encode())
    assert (caught.value.id, caught.value.where) == ("image-bad-dockerignore", ".dockerignore:2")


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 200 + "b",
        "**/a" * 200 + "/b",
        "*" * 3000 + "b",
        "**a" * 1000 + "b",
        "[^/]*?" * 500 + "b",
    ],
)
def test_hostile_patterns_are_matched_in_linear_time(pattern: str) -> None:
    started = time.monotonic()
    files = ["a" * 255, "/".join(["a" * 100] * 40), "a/" * 1500 + "a"]
    assert kept(pattern.encode(), *files) == set(files)
    assert time.monotonic() - started < 2


def sent(files: dict[str, bytes], dockerfile: str = "Dockerfile") -> dict[str, bytes]:
    made = [(Entry(b"100644", b"0" * 40, name.encode()), body) for name, body in files.items()]
    tar = tarfile.open(fileobj=io.BytesIO(docker.context(made, dockerfile=dockerfile, created=0)))  # noqa: SIM115
    return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_the_daemon_always_gets_its_own_files() -> None:
    assert sent({"Dockerfile": b"", ".dockerignore": b"*", "a": b""}).keys() == {
        "Dockerfile",
        ".dockerignore",
    }


def test_a_dockerfiles_own_ignore_file_takes_precedence() -> None:
    files = {"a": b"", "b": b"", ".dockerignore": b"a", "Dockerfile": b""}
    assert "b" not in sent({**files, "Dockerfile.dockerignore": b"b"})
    assert "a" in sent({**files, "Dockerfile.dockerignore": b"b"})
    assert "a" in sent({**files, "Dockerfile.dockerignore": b""})

    elsewhere = {**files, "images/api.Dockerfile": b"", "images/api.Dockerfile.dockerignore": b"b"}
    assert "b" not in sent(elsewhere, "images/api.Dockerfile")
    assert "b" not in sent(elsewhere, "./images/api.Dockerfile")
    assert "b" in sent(elsewhere, "Dockerfile")


@pytest.mark.parametrize(
    ("own", "general", "hidden"),
    [
        (b"Dockerfile", None, {"Dockerfile", ".dockerignore"}),
        (b"*\n!src", b"x", {"Dockerfile", ".dockerignore"}),
        (b"x", b"*", set()),
        (b"Dockerfile", b"x", {"Dockerfile"}),
    ],
)
def test_the_daemon_hides_what_the_dockerfiles_own_ignore_file_says(
    own: bytes, general: bytes | None, hidden: set[str]
) -> None:
    """The daemon hides its two files when `.dockerignore` names them. It reads no other file."""
    files = {"Dockerfile": b"", "src": b"", "Dockerfile.dockerignore": own}
    context = sent(files if general is None else {**files, ".dockerignore": general})
    told = dockerignore.patterns(context.get(".dockerignore", b""))
    assert dockerignore.ignored(told, ["Dockerfile", ".dockerignore"]) == hidden


def test_a_linked_ignore_file_is_followed() -> None:
    linked = (Entry(b"120000", b"0" * 40, b".dockerignore"), b"conf/ignore")
    rest = [
        (Entry(b"100644", b"0" * 40, name), body)
        for name, body in ((b"conf/ignore", b"a"), (b"a", b""))
    ]
    sent = docker.context([linked, *rest], dockerfile="Dockerfile", created=0)
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        assert "a" not in tar.getnames()
    with pytest.raises(UsageError) as caught:
        docker.context([linked], dockerfile="Dockerfile", created=0)
    assert caught.value.id == "image-bad-dockerignore"
