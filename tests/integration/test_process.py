"""The one place that starts processes: how a child ends, what it says, and what an interrupt does
to it.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import MASK, Redactor
from cipipe.tools import process
from cipipe.tools.process import ProcessFailed, ToolMissing, Watch

ENV = {"PATH": os.environ["PATH"]}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_run() -> None:
    done = process.run(
        python("import os, sys; os.write(1, sys.stdin.buffer.read()); os.write(2, b'e')"),
        env=ENV,
        stdin=b"\xff\0",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xff\0", b"e")


def test_only_the_environment_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "1")
    code = "import os; print('LEAKED' in os.environ, os.environ['GIVEN'])"
    assert process.run(python(code), env={**ENV, "GIVEN": "x"}).stdout == b"False x\n"
    lines: list[str] = []
    process.stream(python(code), env={**ENV, "GIVEN": "y"}, line=lines.append)
    assert lines == ["False y"]


def test_there_is_no_shell(tmp_path: Path) -> None:
    argument = "$(touch executed); `touch executed` && *"
    done = process.run([*python("import sys; print(sys.argv[1])"), argument], env=ENV, cwd=tmp_path)
    assert done.stdout.decode() == argument + "\n"
    assert not list(tmp_path.iterdir())


def test_nothing_waits_for_input() -> None:
    code = "import sys; print(repr(sys.stdin.read()))"
    lines: list[str] = []
    process.stream(python(code), env=ENV, line=lines.append)
    assert lines == ["''"]
    assert process.run(python(code), env=ENV).stdout == b"''\n"


def run(code: str, redactor: Redactor) -> object:
    return process.run(python(code), env=ENV, redactor=redactor)


def stream(code: str, redactor: Redactor) -> object:
    return process.stream(
        python(code), env=ENV, watch=Watch(redactor=redactor), line=lambda text: None
    )


@pytest.mark.parametrize("start", [run, stream])
def test_a_failure_tells_the_last_lines_masked(start: Callable[[str, Redactor], object]) -> None:
    redactor = Redactor()
    redactor.register("hunter22")
    code = (
        "import sys\nfor n in range(50): print(f'line {n} hunter22', file=sys.stderr)\nsys.exit(3)"
    )
    with pytest.raises(ProcessFailed) as caught:
        start(code, redactor)
    error = caught.value
    assert (error.id, error.exit_status, error.completed.returncode) == ("tool-failed", 4, 3)
    assert "exited with status 3" in error.message
    assert error.message.splitlines()[1:] == [f"line {n} {MASK}" for n in range(30, 50)]
    assert "hunter22" not in error.message + (error.hint or "")


@pytest.mark.parametrize("start", [run, stream])
def test_a_child_killed_by_a_signal(start: Callable[[str, Redactor], object]) -> None:
    with pytest.raises(ProcessFailed, match="was killed by SIGKILL") as caught:
        start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Redactor())
    assert caught.value.completed.returncode == -signal.SIGKILL


def test_a_status_that_is_expected() -> None:
    assert process.run(python("raise SystemExit(2)"), env=ENV, check=False).returncode == 2
    assert (
        process.stream(python("raise SystemExit(2)"), env=ENV, line=print, accept=(0, 2)).returncode
        == 2
    )
    with pytest.raises(ProcessFailed):
        process.stream(python("raise SystemExit(1)"), env=ENV, line=print, accept=(0, 2))


def start_with(argv: list[str], cwd: Path | None = None) -> list[Callable[[], object]]:
    return [
        lambda: process.run(argv, env=ENV, cwd=cwd),
        lambda: process.stream(argv, env=ENV, cwd=cwd, line=print),
    ]


def test_a_program_that_is_not_there() -> None:
    for start in start_with(["no-such-program", "x"]):
        with pytest.raises(ToolMissing, match="no-such-program is not installed") as caught:
            start()
        assert (caught.value.id, caught.value.exit_status) == ("tool-missing", 4)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for start in start_with(["git", "version"], tmp_path / "absent"):
        with pytest.raises(StageError) as caught:
            start()
        assert caught.value.id == "folder-missing"


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "script"
    program.write_text("echo x\n")
    for mode in (0o644, 0o755):
        program.chmod(mode)
        for start in start_with([str(program)]):
            with pytest.raises(StageError, match="script cannot be run") as caught:
                start()
            assert caught.value.id == "tool-missing"


def test_both_streams_line_by_line_and_whatever_their_bytes() -> None:
    code = (
        "import os\n"
        "os.write(1, b'one\\n'); os.write(2, b'two\\r\\n'); "
        "os.write(1, b'\\xff\\n\\n'); os.write(1, b'three'); os.write(1, b'!')"
    )
    lines: list[str] = []
    done = process.stream(python(code), env=ENV, line=lines.append)
    assert lines == ["one", "two", "\ufffd", "", "three!"]
    assert done.stdout.decode() == "one\ntwo\n\ufffd\n\nthree!"


def test_lines_come_while_the_child_runs() -> None:
    times: list[float] = []
    code = "import time; print('a', flush=True); time.sleep(0.4); print('b', flush=True)"
    process.stream(python(code), env=ENV, line=lambda text: times.append(time.monotonic()))
    assert times[1] - times[0] > 0.2


def test_a_secret_cut_in_two_is_masked() -> None:
    redactor = Redactor()
    redactor.register("hunter22")
    code = (
        "import os, time\n"
        "for piece in (b'a hun', b'ter', b'22 b\\n'): os.write(1, piece); time.sleep(0.05)"
    )
    lines: list[str] = []
    process.stream(python(code), env=ENV, line=lines.append, watch=Watch(redactor=redactor))
    assert lines == [f"a {MASK} b"]


def interrupt_when(lines: list[str], words: str) -> None:
    while words not in lines:
        time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_an_interrupt_reaches_the_child_as_sigterm_and_is_waited_for() -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.3); print('released the lock', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    lines: list[str] = []
    threading.Thread(target=interrupt_when, args=(lines, "ready"), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.stream(python(code), env=ENV, line=lines.append)
    assert lines == ["ready", "released the lock"]
    assert time.monotonic() - started < 30


def test_an_interrupt_stops_what_the_child_left_behind() -> None:
    lines: list[str] = []
    threading.Thread(target=interrupt_when, args=(lines, "ready"), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.stream(["sh", "-c", "echo ready; sleep 30; echo never"], env=ENV, line=lines.append)
    assert lines == ["ready"]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("background", ["sleep 61", "trap '' TERM; sleep 61", "setsid sleep 8"])
def test_what_a_child_leaves_running_holds_nothing_up(
    background: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the group it is ended, with SIGKILL if need be; what has left the group is left alone."""
    monkeypatch.setattr(process, "_LINGER", 0.2)
    lines: list[str] = []
    started = time.monotonic()
    done = process.stream(["sh", "-c", f"({background}) & echo done"], env=ENV, line=lines.append)
    assert (done.returncode, lines) == (0, ["done"])
    assert time.monotonic() - started < 30


def test_an_interrupt_reaches_what_a_child_left_running() -> None:
    lines: list[str] = []
    interrupt = Interrupt()

    def press() -> None:
        while "done" not in lines:
            time.sleep(0.01)
        time.sleep(0.2)
        interrupt.trigger()

    threading.Thread(target=press, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.stream(
            ["sh", "-c", "sleep 62 & echo done"],
            env=ENV,
            line=lines.append,
            watch=Watch(interrupt=interrupt),
        )
    assert time.monotonic() - started < 5


def test_ctrl_c_at_the_terminal_does_not_reach_the_child_twice() -> None:
    lines: list[str] = []
    process.stream(
        python("import os; print(os.getsid(0) == os.getpid())"), env=ENV, line=lines.append
    )
    assert lines == ["True"]


def test_a_service(tmp_path: Path) -> None:
    log = tmp_path / "log"
    made = process.start(
        python("import time; print('up', flush=True); time.sleep(60)"), env=ENV, log=log
    )
    try:
        while "up" not in made.tail():
            assert made.returncode is None
            time.sleep(0.01)
    finally:
        assert made.stop() == -signal.SIGTERM
    assert made.stop() == made.returncode
    with pytest.raises(ToolMissing):
        process.start(["no-such-program"], env=ENV, log=log)


def test_a_service_that_does_not_want_to_end(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(60)"
    )
    made = process.start(python(code), env=ENV, log=tmp_path / "log")
    while "up" not in made.tail():
        time.sleep(0.01)
    assert made.stop(timeout=0.2) == -signal.SIGKILL


# --- what may hold secrets -----------------------------------------------------------------------

STATE = '{"password": {"sensitive": true, "value": "correct-horse"'


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(1)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGRTMIN)",
    ],
)
def test_what_a_command_prints_for_its_caller_is_not_quoted(end: str) -> None:
    code = f"import os, signal, sys\nprint({STATE!r}, flush=True)\n{end}"
    with pytest.raises(ProcessFailed) as caught:
        process.run([*python("import sys; exec(sys.stdin.read())")], env=ENV, stdin=code.encode())
    error = caught.value
    assert error.completed.stdout == b""
    assert "correct-horse" not in f"{error.message}{error.hint}"
    assert re.search(
        r"(exited with status 1|was killed by (SIGKILL|signal \d+|SIGRTMIN))$", error.message
    )


def test_what_it_says_on_standard_error_is_quoted_without_escape_sequences() -> None:
    code = (
        "import sys; print('data'); "
        "print('\\x1b[31m\\x1b[1mError:\\x1b[0m no', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(ProcessFailed) as caught:
        process.run(python(code), env=ENV)
    assert caught.value.message.splitlines()[1:] == ["Error: no"]


@pytest.mark.parametrize("layout", [None, 2], ids=["on one line", "on many"])
def test_an_answer_that_comes_on_standard_error_is_not_quoted(layout: int | None) -> None:
    answer = json.dumps(
        {"password": {"value": ["correct-horse", 123456789, None, {"more": 'battery "staple"'}]}},
        indent=layout,
    )
    said = f"Error: no such bucket\n{answer}\n  [WARN] at main.tf:3\n"
    with pytest.raises(ProcessFailed) as caught:
        process.run(
            python("import sys; sys.stderr.write(sys.stdin.read()); sys.exit(1)"),
            env=ENV,
            stdin=said.encode(),
        )
    assert caught.value.message.splitlines()[1:] == [
        "Error: no such bucket",
        "  [WARN] at main.tf:3",
    ]


@pytest.mark.parametrize(
    "printed",
    [
        STATE,
        "",
        "\\xff\\xfe",
        '{"a": "correct-horse\\\\ud800"}',
        '["correct-horse"]',
        '"correct-horse"',
        '{"correct-horse": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=range(9),
)
def test_json_that_cannot_be_read_is_not_quoted(printed: str) -> None:
    done = process.Completed(("terraform", "show", "-json"), 0, printed.encode("latin-1"), b"")
    with pytest.raises(StageError, match="`terraform show -json` did not print the JSON") as caught:
        process.document(done, dict[str, dict[str, str]])
    assert (
        "correct-horse" not in f"{caught.value.message}{caught.value.hint}{caught.value.__cause__}"
    )


def test_json_that_can() -> None:
    assert process.document(process.Completed(("x",), 0, b'{"a": [1, null]}', b"")) == {
        "a": [1, None]
    }


def test_a_failing_listener_does_not_keep_the_child_running() -> None:
    def fail(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match=r"^line 0$"):
        process.stream(python("for n in range(100_000): print('line', n)"), env=ENV, line=fail)
