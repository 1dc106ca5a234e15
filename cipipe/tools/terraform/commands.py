"""Running terraform in one root: its environment, its machine-readable log,
its failures.

https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from cipipe import bounded
from cipipe.errors import CipipeError, ConflictError, RefusedError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools import process
from cipipe.tools.terraform import blocks, errors, locks, plugin_cache
from cipipe.tools.terraform.backend import Backend, not_kept
from cipipe.tools.terraform.lock_file import LockFile
from cipipe.tools.terraform.locks import LockContext
from cipipe.tools.terraform.log.lock_wait import Waiting

# Variables that would make Terraform do something else than the plan says.
# Another workspace, for example, is another state.
_REMOVED = ("TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR", "TF_LOG", "TF_REATTACH_PROVIDERS")

# Types of log messages that say nothing to a reader.
# What a plan does is read from the plan itself.
_QUIET = {
    "version",
    "outputs",
    "refresh_start",
    "refresh_complete",
    "resource_drift",
    "planned_change",
}

# What `init` says where the repository has no lock file. The one that it
# created does not stay there: see lock_file.py.
_LOCK_FILE_CREATED = " has created a lock file "
_NOT_PINNED = "no .terraform.lock.hcl is committed here, so provider versions are not pinned"

# Summaries of what `init` says when settings are for another type of
# backend.
_FOREIGN_SETTING = {"Extraneous JSON object property", "Invalid command-line option"}

OWN_WORKSPACE = ""
"""The workspace of the backend's settings, where a command takes a workspace."""

Reader: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Returns the line to show for a message of the log; None for none."""

T = TypeVar("T")


def usual(message: Mapping[str, Any]) -> str | None:
    """The line for a message of a command that changes nothing."""
    if message.get("type") in _QUIET or _of_plan(message):
        return None
    text = str(message.get("@message", ""))
    return _NOT_PINNED if _LOCK_FILE_CREATED in text else text


@dataclass(frozen=True, kw_only=True)
class Commands:
    """How terraform is run in one root folder."""

    root: Path
    # Has providers, modules and the backend's settings, outside the work
    # tree. One per environment.
    data_dir: Path
    # The whole environment of the processes, credentials included.
    env: Mapping[str, str]
    redactor: Redactor
    # Gets each line of progress.
    line: Callable[[str], None]
    # The command that releases a lock, without the lock's ID.
    unlock_command: str
    interrupt: Interrupt = field(default_factory=Interrupt)
    backend: Backend = field(default_factory=Backend)
    # The root as messages name it; empty: the name of its folder.
    shown: str = ""
    # How long to wait for a state lock that another has, as Terraform
    # writes durations.
    lock_timeout: str = "0s"
    # `terraform` or `tofu`.
    program: str = "terraform"
    # Where providers are kept for other roots and jobs; None: nowhere.
    plugin_cache: Path | None = None

    @property
    def lock_file(self) -> LockFile:
        return LockFile(self.root, self.data_dir)

    @property
    def lock_context(self) -> LockContext:
        """What errors about a state lock need."""
        return LockContext(
            unlock=self.unlock_command,
            where=self.where,
            now=datetime.now(UTC),
            own_info=self.backend.reports_own_lock,
        )

    def call(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes | None = None,
        workspace: str | None = OWN_WORKSPACE,
    ) -> process.Completed:
        """Run a short command that has no machine-readable log. The caller checks its status."""
        with self.lock_file.present():
            return process.run(
                [self.program, *arguments],
                env=self.environment(workspace),
                cwd=self.root,
                stdin=stdin,
                check=False,
                redactor=self.redactor,
            )

    def json(self, arguments: Sequence[str], shape: Any) -> Any:
        """Run a short command that prints JSON, and decode that as a `shape`."""
        with self.lock_file.present():
            done = process.run(
                [self.program, *arguments],
                env=self.environment(),
                cwd=self.root,
                redactor=self.redactor,
            )
        return process.document(done, shape)

    def stream(
        self,
        arguments: Sequence[str],
        *,
        accept: Sequence[int] = (0,),
        warned: Callable[[str], None] = lambda _: None,
        reader: Reader = usual,
    ) -> process.Completed:
        """Run a command with its machine-readable log. Its diagnostics
        become the error.

        `warned` gets the summary of each warning, `reader` every message.
        """
        verb, *rest = arguments
        argv = [self.program, verb, "-json", "-no-color", *rest]
        # `init` refuses a workspace that does not exist yet.
        without = verb == "init" and self.backend.keeps_workspaces
        env = self.environment(None if without else OWN_WORKSPACE)
        if verb == "init":
            env |= plugin_cache.variables(self.plugin_cache, locked=self.lock_file.committed)

        log = _Log(self.line, warned, reader)
        try:
            with self._lock_file_for(verb):
                return process.stream(
                    argv,
                    env=env,
                    line=log.read,
                    cwd=self.root,
                    accept=accept,
                    watch=process.Watch(redactor=self.redactor, interrupt=self.interrupt),
                )
        except process.ProcessFailed as error:
            if not log.errors:
                raise
            raise self._explained(verb, log.errors) from error

    def locking(self, work: Callable[[str, Reader], T], reader: Reader = usual) -> T:
        """Do `work`, which runs a command that locks the state.

        It gets the argument about the lock, and what reads the log. Where
        another has the lock, it is done again, and Terraform waits for the
        lock: `lock_timeout` at most. Nothing was changed before.
        """
        try:
            return work("-lock-timeout=0s", reader)
        except ConflictError as error:
            if error.id not in locks.TAKEN or locks.is_zero(self.lock_timeout):
                raise
            self.line(f"{error.message}; waiting up to {self.lock_timeout} for it")
        with Waiting(self.line, self.lock_timeout) as waiting:
            return work(f"-lock-timeout={self.lock_timeout}", waiting.following(reader))

    def environment(self, workspace: str | None = OWN_WORKSPACE) -> dict[str, str]:
        """The environment of a command; `workspace` is None for one without TF_WORKSPACE."""
        if workspace == OWN_WORKSPACE:
            workspace = self.backend.workspace
        env = {key: value for key, value in self.env.items() if not key.startswith(_REMOVED)}
        env |= self.backend.variables()
        if workspace:
            env["TF_WORKSPACE"] = workspace
        return env | {
            "TF_DATA_DIR": str(self.data_dir),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            # Otherwise Terraform asks HashiCorp for a newer version.
            "CHECKPOINT_DISABLE": "1",
        }

    def failed(self, verb: str, completed: process.Completed) -> CipipeError:
        """The error of a command that `call` ran."""
        stderr = self.redactor.text(completed.stderr.decode(errors="replace"))
        text = process.without_json(stderr)
        return errors.of_text(
            f"{self.program} {verb}", text, completed.returncode, self.lock_context
        )

    def not_kept(self, actual: str | None) -> RefusedError:
        """The error of a root whose state is in another backend; `actual` is None for none."""
        return not_kept(
            actual, wanted=self.backend.type, root=self.where, declared=self._declared()
        )

    @property
    def where(self) -> str:
        """The root, as messages name it."""
        return self.shown or self.root.name

    @contextmanager
    def _lock_file_for(self, verb: str) -> Iterator[None]:
        if verb != "init":
            with self.lock_file.present():
                yield
            return
        # Only `init` may write the file, and the cache.
        with plugin_cache.alone(self.plugin_cache), self.lock_file.written():
            yield

    def _declared(self) -> blocks.Declared | None:
        files = [
            file
            for file in self.root.glob("*.t*f*")
            if file.name.endswith((".tf", ".tf.json", ".tofu", ".tofu.json")) and file.is_file()
        ]
        return blocks.declared({file.name: file.read_bytes() for file in files})

    def _explained(self, verb: str, diagnostics: Sequence[Mapping[str, Any]]) -> CipipeError:
        summaries = {found.get("summary") for found in diagnostics}
        if verb == "init" and summaries & _FOREIGN_SETTING:
            declared = self._declared()
            if declared is not None and declared.type != self.backend.type:
                return self.not_kept(declared.type)
        return errors.of_diagnostics(f"{self.program} {verb}", diagnostics, self.lock_context)


class _Log:
    """Reads the machine-readable log: progress goes to `line`, errors are collected."""

    def __init__(
        self, line: Callable[[str], None], warned: Callable[[str], None], reader: Reader
    ) -> None:
        self._line = line
        self._warned = warned
        self._reader = reader
        self.errors: list[dict[str, Any]] = []

    def read(self, text: str) -> None:
        message = _decoded(text)
        if message is None:
            # Providers and crashes write plain text in between.
            if text.strip():
                self._line(text)
            return

        diagnostic = message.get("diagnostic") or {}
        severity = diagnostic.get("severity")
        if severity == "warning":
            self._warned(str(diagnostic.get("summary")))
        shown = self._reader(message)
        if message.get("type") == "diagnostic" and severity == "error":
            self.errors.append(diagnostic)
        elif shown is not None:
            self._line(shown)


def _of_plan(message: Mapping[str, Any]) -> bool:
    """Whether it is the summary of a plan, which is shown in full instead."""
    summary = message.get("changes") or {}
    return message.get("type") == "change_summary" and summary.get("operation") == "plan"


class _Version(msgspec.Struct):
    terraform_version: str


def version(env: Mapping[str, str], program: str = "terraform") -> str:
    """The version of Terraform, such as `1.11.4`. Raises ToolMissing, ProcessFailed."""
    done = process.run([program, "version", "-json"], env={**env, "CHECKPOINT_DISABLE": "1"})
    return str(process.document(done, _Version).terraform_version)


def _decoded(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        message = bounded.decode(text)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, dict) and "@level" in message else None
