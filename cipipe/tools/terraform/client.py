"""The one client of Terraform: argument lists, its machine-readable log (`-json`), its plan and its
outputs.

Sources: developer.hashicorp.com/terraform/internals/machine-readable-ui and
…/internals/json-format.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.errors import CipipeError, RefusedError, StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools import process
from cipipe.tools.terraform import (
    blocks as terraform_blocks,
)
from cipipe.tools.terraform import (
    errors as terraform_errors,
)
from cipipe.tools.terraform import (
    locks as terraform_locks,
)
from cipipe.tools.terraform.backend import (
    Backend,
    forget_in_force,
    in_force,
    not_kept,
    remove_torn,
    settings_file,
)
from cipipe.tools.terraform.lock_file import LockFile
from cipipe.tools.terraform.shown import Change, Shown, Values

_NO_BLOCK = "Missing backend configuration"
_FOREIGN_ARGUMENT = {"Extraneous JSON object property", "Invalid command-line option"}
_LOCK_FILE_SINCE = (1, 10)  # S3's own
_LOCKED_PROVIDER = "locked provider"
_PROBE = "terraform_data.cipipe_asks_for_the_lock"
# What would make Terraform do something else than the plan says: another workspace is another
# state.
_FOREIGN = ("TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR", "TF_LOG", "TF_REATTACH_PROVIDERS")
_QUIET = {"version", "outputs", "refresh_start", "refresh_complete", "resource_drift"}


@dataclass(frozen=True)
class Terraform:
    """Terraform in one root folder. `env` is the children's whole environment, credentials
    included.

    `data_dir` keeps providers, modules and the backend's settings out of the work tree, one per
    environment. `unlock_command` is what a person has to run, with the lock's ID behind it, when a
    lock was left. `shown` is the root as messages name it.
    """

    root: Path
    data_dir: Path
    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    unlock_command: str
    interrupt: Interrupt | None = None
    backend: Backend = field(default_factory=Backend)
    shown: str = ""

    def init(self) -> None:
        """Set the backend and the providers up; the lock file, where there is one, is never
        changed.

        Raises RefusedError where the root's state would not be kept by the backend that the
        settings name.
        """
        for secret in self.backend.secrets():
            self.redactor.register(secret)
        remove_torn(self.data_dir)
        (self.data_dir / "environment").unlink(
            missing_ok=True
        )  # the workspace that an earlier command selected
        settings = dict(self.backend.written())
        lock_file = self.backend.locks_by_default and self._can_lock_by_file()
        self._init(settings | ({"use_lockfile": True} if lock_file else {}))
        found = in_force(self.data_dir) or {}
        if lock_file and (found.get("config") or {}).get("dynamodb_table"):
            self._init(
                settings | {"use_lockfile": False}
            )  # the root locks in a table, and so does everybody else

    def _init(self, settings: Mapping[str, Any]) -> None:
        missing: list[str] = []

        def warned(summary: str) -> None:
            if summary == _NO_BLOCK:
                missing.append(summary)

        arguments = ["init", "-input=false", "-reconfigure"]
        arguments += ["-lockfile=readonly"] if self._lock_file.path.is_file() else []
        if not settings:
            forget_in_force(
                self.data_dir
            )  # with settings, Terraform warns that there is no block for them
        with settings_file(settings) as options:
            try:
                self._run([*arguments, *options], warned=warned)
            except StageError as error:
                # The constraints may have moved on since an earlier run in this clone chose the
                # providers.
                if _LOCKED_PROVIDER not in error.message or not self._lock_file.forget():
                    raise
                self._run([*arguments, *options], warned=warned)
        found = None if missing else in_force(self.data_dir)
        if found is None or found["type"] != self.backend.type:
            raise self._not_kept(str(found["type"]) if found else None)

    def create_state(self) -> None:
        """Create the state, and the workspace, where there is none yet: with no resources in it.

        A plan made against no state has no lineage by which Terraform could tell that another run
        created one since.
        """
        if self.backend.keeps_workspaces and not self.has_workspace():
            made = self._call(
                ["workspace", "new", "-no-color", str(self.backend.workspace)], workspace=None
            )
            if made.returncode != 0 and b"already exists" not in made.stderr:
                raise self._failed("workspace new", made)
        if not self.backend.seeds or self._lineage():
            return
        empty = {
            "version": 4,
            "terraform_version": "1.0.0",  # the oldest one that has this format: a newer one is refused
            "serial": 1,
            "lineage": str(uuid.uuid4()),
            "outputs": {},
            "resources": [],
        }
        pushed = self._call(["state", "push", "-no-color", "-"], stdin=msgspec.json.encode(empty))
        # Somebody else was faster, and the plan will be made against that state.
        if pushed.returncode != 0 and b"over unrelated state" not in b" ".join(
            pushed.stderr.split()
        ):
            raise self._failed("state push", pushed)

    def has_workspace(self) -> bool:
        """Whether the workspace exists. Asking with TF_WORKSPACE set would create it."""
        if not self.backend.keeps_workspaces:
            return True
        listed = self._call(["workspace", "list", "-no-color"], workspace=None)
        if listed.returncode != 0:
            raise self._failed("workspace list", listed)
        return (
            self.backend.workspace
            in listed.stdout.decode(errors="replace").replace("*", " ").split()
        )

    def plan(
        self,
        file: Path,
        *,
        var_files: Sequence[str] = (),
        destroy: bool = False,
        lock: bool = True,
    ) -> bool:
        """Save a plan to `file`; says whether it changes anything."""
        arguments = [
            "plan",
            "-input=false",
            "-detailed-exitcode",
            f"-out={file}",
            f"-lock={str(lock).lower()}",
        ]
        arguments += ["-destroy"] if destroy else []
        arguments += [f"-var-file={name}" for name in var_files]
        return self._run(arguments, accept=(0, 2)).returncode == 2

    def changes(self, file: Path) -> tuple[Change, ...]:
        """What a saved plan would do, resource by resource."""
        shown: Shown = self._json(["show", "-json", str(file)], Shown)
        return shown.changes()

    def planned_outputs(self, file: Path) -> frozenset[str]:
        """The names of the outputs that there will be when a saved plan has been applied."""
        return frozenset(self._json(["show", "-json", str(file)], Shown).planned_values.outputs)

    def apply(self, file: Path) -> None:
        """Apply exactly that saved plan."""
        self._run(["apply", "-input=false", str(file)])

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What `terraform output -json` prints: name → `{type, value, sensitive}`. Secrets are
        registered.
        """
        found: dict[str, dict[str, Any]] = self._json(
            ["output", "-json"], dict[str, dict[str, Any]]
        )
        for output in found.values():
            if output.get("sensitive"):
                self.redactor.register_value(output.get("value"))
        return found

    def identity_providers(self) -> frozenset[str]:
        """The hosts of the IAM OIDC providers in the state."""
        state = self._json(["show", "-json"], Shown)
        return frozenset(
            str(resource.values.get("url")).removeprefix("https://")
            for resource in (state.values or Values()).root_module.resources
            if resource.type == "aws_iam_openid_connect_provider" and resource.mode == "managed"
        )

    def unlock(self, lock_id: str) -> None:
        """Release a lock that a killed run left. Only ever asked for by a person.

        Raises StageError where there is no such lock. Some stores release whatever they hold, so
        the lock is asked for first, by a command that changes nothing: its refusal names the one
        that is held.
        """
        asked = self._asked()
        probe = self._call(["untaint", "-no-color", "-allow-missing", _PROBE])
        text = probe.stderr.decode(errors="replace")
        if probe.returncode == 0:
            raise terraform_locks.unknown(lock_id, None, asked)
        if terraform_locks.REFUSED not in text:
            raise self._failed("untaint", probe)
        held = terraform_locks.held(text, asked)
        if held is not None and held.id != lock_id:
            raise terraform_locks.unknown(lock_id, held, asked)
        if held is None and f'lock ID: "{lock_id}"' not in " ".join(
            text.split()
        ):  # as HCP Terraform names its locks
            raise terraform_locks.error(self.redactor.text(text), asked)
        released = self._call(["force-unlock", "-no-color", "-force", "--", lock_id])
        if released.returncode != 0:
            raise self._failed("force-unlock", released)

    @property
    def _lock_file(self) -> LockFile:
        return LockFile(self.root, self.data_dir)

    def _lineage(self) -> str:
        """The lineage of the state; empty where there is no state."""
        pulled = self._call(["state", "pull", "-no-color"])
        if pulled.returncode != 0:
            raise self._failed("state pull", pulled)
        if not pulled.stdout.strip():
            return ""
        return str(process.document(pulled, _State).lineage)

    def _can_lock_by_file(self) -> bool:
        found = version(self._environment())
        if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) >= _LOCK_FILE_SINCE:
            return True
        self.line(
            f"warning: Terraform {found} cannot lock a state in S3 by a file, so nothing is locked: "
            "use Terraform 1.10 or newer, or set dynamodb_table in `backend`"
        )
        return False

    def _call(
        self, arguments: Sequence[str], *, stdin: bytes | None = None, workspace: str | None = ""
    ) -> process.Completed:
        """Run a short command that has no machine-readable log; its status is for the caller to
        look at.
        """
        with self._lock_file.lent():
            return process.run(
                ["terraform", *arguments],
                env=self._environment(workspace),
                cwd=self.root,
                stdin=stdin,
                check=False,
                redactor=self.redactor,
            )

    def _json(self, arguments: Sequence[str], shape: Any) -> Any:
        with self._lock_file.lent():
            done = process.run(
                ["terraform", *arguments],
                env=self._environment(),
                cwd=self.root,
                redactor=self.redactor,
            )
        return process.document(done, shape)

    def _run(
        self,
        arguments: Sequence[str],
        *,
        accept: Sequence[int] = (0,),
        warned: Callable[[str], None] = lambda _: None,
    ) -> process.Completed:
        """Run a command with its machine-readable log, and make its diagnostics the error, where it
        fails.

        `warned` is given the summary of each warning.
        """
        diagnostics: list[dict[str, Any]] = []
        verb, *rest = arguments

        def heard(text: str) -> None:
            message = _decoded(text)
            if message is None:
                if text.strip():
                    self.line(text)
                return
            diagnostic = message.get("diagnostic") or {}
            if diagnostic.get("severity") == "warning":
                warned(str(diagnostic.get("summary")))
            if message.get("type") == "diagnostic" and diagnostic.get("severity") == "error":
                diagnostics.append(diagnostic)
            elif message.get("type") not in _QUIET:
                self.line(str(message.get("@message", "")))

        argv = ["terraform", verb, "-json", "-no-color", *rest]
        # Without a workspace, because `init` refuses one that does not exist yet.
        workspace = None if verb == "init" and self.backend.keeps_workspaces else ""
        lock_file = self._lock_file.made() if verb == "init" else self._lock_file.lent()
        try:
            with lock_file:
                return process.stream(
                    argv,
                    env=self._environment(workspace),
                    line=heard,
                    cwd=self.root,
                    redactor=self.redactor,
                    accept=accept,
                    interrupt=self.interrupt,
                )
        except process.ProcessFailed as error:
            if not diagnostics:
                raise
            raise self._explained(verb, diagnostics) from error

    def _environment(self, workspace: str | None = "") -> dict[str, str]:
        """The environment of a command; the backend's own workspace, unless another one (or None)
        is asked for.
        """
        workspace = self.backend.workspace if workspace == "" else workspace
        kept = {key: value for key, value in self.env.items() if not key.startswith(_FOREIGN)}
        return {
            **kept,
            **self.backend.variables(),
            **({"TF_WORKSPACE": workspace} if workspace else {}),
            "TF_DATA_DIR": str(self.data_dir),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }

    @property
    def _where(self) -> str:
        return self.shown or self.root.name

    def _asked(self) -> terraform_locks.Asked:
        return terraform_locks.Asked(
            unlock=self.unlock_command,
            where=self._where,
            now=datetime.now(UTC),
            own_info=self.backend.tells_own_lock,
        )

    def _failed(self, verb: str, completed: process.Completed) -> CipipeError:
        text = process.without_json(self.redactor.text(completed.stderr.decode(errors="replace")))
        return terraform_errors.of_text(verb, text, completed.returncode, self._asked())

    def _not_kept(self, actual: str | None) -> RefusedError:
        return not_kept(
            actual, wanted=self.backend.type, root=self._where, declared=self._declared()
        )

    def _declared(self) -> terraform_blocks.Declared | None:
        files = [
            file for file in self.root.glob("*.tf*") if file.name.endswith((".tf", ".tf.json"))
        ]
        return terraform_blocks.declared(
            {file.name: file.read_bytes() for file in files if file.is_file()}
        )

    def _explained(self, verb: str, diagnostics: Sequence[Mapping[str, Any]]) -> CipipeError:
        if verb == "init" and any(
            found.get("summary") in _FOREIGN_ARGUMENT for found in diagnostics
        ):
            declared = self._declared()
            if declared is not None and declared.type != self.backend.type:
                return self._not_kept(declared.type)
        return terraform_errors.of_diagnostics(verb, diagnostics, self._asked())


class _State(msgspec.Struct):
    lineage: str = ""


class _Version(msgspec.Struct):
    terraform_version: str


def version(env: Mapping[str, str]) -> str:
    """The version of Terraform, such as `1.11.4`. Raises ToolMissing, ProcessFailed. Nobody is
    asked for a newer one.
    """
    done = process.run(["terraform", "version", "-json"], env={**env, "CHECKPOINT_DISABLE": "1"})
    return str(process.document(done, _Version).terraform_version)


def _decoded(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        message = bounded.decode(text)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, dict) and "@level" in message else None
