"""What leaves the process: nothing in it acts on a CI service or a terminal but the lines that the
provider made.
"""

import io
import json
import sys
import threading
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cipipe import ci, terminal
from cipipe.cli.console import Console
from cipipe.cli.output_filter import Filter, Log
from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.model import Reason, StagePlan, Status
from cipipe.redact import MASK, Redactor
from cipipe.results import Result, StageReport
from support.githublog import COMMANDS, commands

GITHUB = {"GITHUB_ACTIONS": "true"}
GITLAB = {"GITLAB_CI": "true"}

PIECES = [
    *'#:[]\n\r\t \x1b\x85\u2028\u2029\xa0\u200b\ufeff\u0301\ufe0f"\\a',
    *(
        "##[",
        "::",
        "\x1b[0m",
        "\x1b[8m",
        "\x1b]0;title\x07",
        "\x1b[2K",
        "\x9b1A",
        "\x1b[0K",
        "section_start:1:x\r\x1b[0K",
    ),
    *(f"##[{name}]" for name in sorted(COMMANDS)),
    *(f"::{name}::" for name in sorted(COMMANDS)),
    "::set-output name=due_live::true",
    "##[stop-commands]a-long-token",
]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def filtered(env: dict[str, str], *secrets: str) -> Filter:
    redactor = Redactor()
    for secret in secrets:
        redactor.register(secret)
    return Filter(ci.detect(env), lambda: redactor)


@given(HOSTILE, st.booleans())
@example("#\x1b[0m#[add-mask]x", False)
@example("\x1b[0m::add-mask::x", False)
@example("##\u200b[add-mask]x", True)
@example("###[add-mask]x", True)
@example("\r::add-mask::x", False)
def test_github_finds_no_command_in_text(text: str, colour: bool) -> None:
    assert list(commands(filtered(GITHUB).text(text, colour=colour))) == []


@given(HOSTILE)
@example('"##[add-mask]": 1, "\x85::add-mask::x"')
def test_github_finds_no_command_in_json_which_stays_the_same(text: str) -> None:
    document = {text: [text, {"a": text}], "number": 1.5, "none": None}
    for written in (json.dumps(document, ensure_ascii=False, indent=2), json.dumps(document)):
        shown = filtered(GITHUB).json(written)
        assert list(commands(shown)) == []
        assert json.loads(shown) == document
        assert shown.replace("\n", "").isprintable()


@given(HOSTILE, st.sampled_from([GITHUB, GITLAB, {}]), st.booleans())
def test_a_terminal_is_shown_colours_at_most(text: str, env: dict[str, str], colour: bool) -> None:
    shown = filtered(env).text(text, colour=colour)
    rest = shown.replace("\x1b[0m", "").replace("\x1b[8m", "") if colour else shown
    assert rest.replace("\n", "").replace("\t", "").replace("\xa0", "").isprintable()
    for line in shown.split("\n"):
        assert "\x1b[8m" not in line.rpartition("\x1b[0m")[2], "a colour ends with its line"


@given(HOSTILE)
def test_masking_opens_no_command(text: str) -> None:
    for written in (f"##{text}", f":{text}:", text):
        assert (
            list(
                commands(
                    filtered(GITHUB, "hunter22", "##[add").text(written.replace("a", "hunter22"))
                )
            )
            == []
        )


def test_what_is_kept_is_shown_as_it_is() -> None:
    text = "a: b::c ### d [e] #[f] ➜ ü\n\tmodule.x::y  100% |####|"
    assert filtered(GITHUB).text(text) == text


def test_a_command_is_shown_as_text() -> None:
    assert (
        filtered(GITHUB).text("x ##[add-mask]y\n  ::debug::z")
        == "x \\x23#[add-mask]y\n  \\x3a:debug::z"
    )


def test_a_secret_in_pieces_is_masked_where_its_colours_go() -> None:
    assert filtered({}, "hunter22").text("hun\x1b[1mter22") == MASK


# --- JSON ---


def test_a_masked_document_stays_one() -> None:
    document = {
        "schema": 1,
        "failed": False,
        "passwords": 'say "hunter22" \\ ',
        "hunter22 of a user": 12345678,
        "list": [None, True, "12345678"],
    }
    shown = json.loads(
        filtered({}, "false", "true", "null", "passwords", "12345678", "hunter22").json(
            json.dumps(document)
        )
    )
    assert shown == {
        "schema": 1,
        "failed": False,
        "passwords": f'say "{MASK}" \\ ',
        f"{MASK} of a user": 12345678,
        "list": [None, True, MASK],
    }


def test_a_secret_with_quotes_is_masked_in_json() -> None:
    secret = 'p"w\\d\u00e9\x1b##['
    assert json.loads(
        filtered(GITHUB, secret).json(json.dumps({"a": secret}, ensure_ascii=False))
    ) == {"a": MASK}


# --- the console ---


class Printed:
    """A console in a job, and what it has printed on standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
        self.stderr, self.stdout = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stderr", self.stderr)
        monkeypatch.setattr(sys, "stdout", self.stdout)
        self.console = Console(env)

    @property
    def log(self) -> str:
        return self.stderr.getvalue()


def everything(console: Console, text: str) -> None:
    """Print a text in every place that a console has for it."""
    stage = StagePlan(
        name=text,
        kind="command",
        status=Status.DUE,
        reason=Reason.CHANGED,
        detail=text,
        fingerprint="f" * 64,
        deployed_fingerprint=None,
        paths=(),
        needs=(),
        steps=(),
    )
    report = StageReport(
        name=text,
        kind="command",
        result=Result.FAILED,
        reason=Reason.CHANGED,
        detail=text,
        seconds=1.0,
        made=text,
    )
    console.say(text)
    console.warning(text)
    for alone in (True, False):
        console.stage_started(stage, alone=alone)
        console.step(text, text)
        console.line(text, text)
        console.stage_finished(report)
    console.error(StageError("tool-failed", text, hint=text, where=text))
    console.error(
        ProblemsError("config-invalid", text, (Problem("x", text, text, text),) * 2, hint=text)
    )
    try:
        raise RuntimeError(text)  # noqa: TRY301
    except RuntimeError:
        console.bug()
    console.answer(text)


@given(HOSTILE)
@example("##[stop-commands]open-sesame")
@example("\n::stop-commands::open-sesame")
def test_everything_that_a_console_prints(text: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        printed = Printed(patched, GITHUB)
        everything(printed.console, text)
        printed.console.redactor.register("correct-horse")
        names = {name for name, _ in commands(printed.log)}
        assert names <= {"warning", "group", "endgroup", "add-mask"}
        lines = [line for line in printed.log.split("\n") if list(commands(line))]
        assert [line.partition("::")[2].partition("::")[0] for line in lines] == [
            "warning",
            "group",
            "endgroup",
            "add-mask",
        ]
        assert list(commands(printed.stdout.getvalue())) == []


@given(HOSTILE)
def test_gitlab_sees_the_sections_that_are_ours(text: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        printed = Printed(patched, GITLAB)
        everything(printed.console, text)
        assert printed.log.count("\r\x1b[0K") == 2
        assert printed.log.count("\r") == 2


def test_colours_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured, plain = (
        Printed(monkeypatch, GITLAB),
        Printed(monkeypatch, {**GITLAB, "NO_COLOR": "1"}),
    )
    for printed in (coloured, plain):
        monkeypatch.setattr(sys, "stderr", printed.stderr)
        printed.console.line(
            "build", "\x1b[1mbold\x1b[2K\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1b[31mred"
        )
    assert coloured.log == "\x1b[2mbuild\x1b[0m │   \x1b[1mboldlink \x1b[31mred\x1b[0m\n"
    assert plain.log == "build │   boldlink red\n"


def test_a_message_of_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(monkeypatch, {})
    problems = (
        Problem(
            "dag-import-failed",
            "it fails:\nTraceback:\n\tx \x1b[1m1\x1b[0m",
            "a.py",
            "Look\nat it.",
        ),
    )
    printed.console.error(
        ProblemsError("dag-checks-failed", "one\ntwo", problems, hint="first\nsecond")
    )
    assert printed.log.splitlines()[:-1] == [
        "error: one",
        "  two",
        "  a.py: it fails: (dag-import-failed)",
        "      Traceback:",
        "      \tx 1",
        "      Look",
        "      at it.",
        "  hint:  first",
        "         second",
    ]


# --- the log ---


class Broken(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(),
        OSError(28, "No space left on device"),
        ValueError("I/O operation on closed file"),
    ],
)
def test_a_log_that_cannot_be_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    printed = Printed(monkeypatch, GITHUB)
    monkeypatch.setattr(sys, "stderr", Broken(error))
    printed.console.redactor.register("correct-horse")
    everything(printed.console, "text")
    assert printed.console.redactor.text("correct-horse") == MASK


def test_what_others_print_on_standard_error_goes_through_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = Printed(monkeypatch, GITHUB)
    printed.console.redactor.register("hunter22")

    def fail() -> None:
        print("##[add-mask]x hunter22", file=sys.stderr)

    with printed.console.log.in_place():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        print("Really?", end=" ", file=sys.stderr, flush=True)
        assert printed.log.endswith("Really? ")
    assert printed.log == f"::add-mask::hunter22\n\\x23#[add-mask]x {MASK}\nReally? "


def test_half_a_command_now_and_half_later() -> None:
    stream = io.StringIO()
    log = Log(filtered(GITHUB).text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        for piece in ("#", "#", "[add-mask", "]x\n"):
            log.write(piece)
    assert list(commands(stream.getvalue())) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[38;5;1mb\x1b[mc", "abc"),
        ("\x1b]0;title\x07a\x1bPq#\x1b\\b\x9b2Jc", "abc"),
        ("\x1b(Ba\x1b7b\x1bMc\x1b=", "abc"),
        ("cut \x1b[", "cut \x1b["),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert terminal.plain(text) == expected


@pytest.mark.parametrize(
    "piece", ["\x1b]", "\x1b[0", "\x1b[", "\x1bP0", "\x9d", "#", "\u0301#", ":", " :"]
)
def test_hostile_text_takes_no_time(piece: str) -> None:
    filtered(GITHUB).text(piece * 200_000, colour=True)


def parsed(text: str) -> Any:
    return json.loads(filtered(GITHUB).json(text))


def test_empty_documents() -> None:
    assert (parsed("{}"), parsed('""'), parsed("[]")) == ({}, "", [])
