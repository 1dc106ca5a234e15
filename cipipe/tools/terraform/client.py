"""Terraform's verbs in one root: init, plan, apply, outputs, unlock.

Every command that changes something runs from a saved plan, or changes an
empty state only.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.tools.terraform import locks, state_push
from cipipe.tools.terraform.backend import forget_in_force, in_force, remove_torn, settings_file
from cipipe.tools.terraform.commands import Commands, Reader, version
from cipipe.tools.terraform.log.apply_log import ApplyLog
from cipipe.tools.terraform.setup.initialised import Initialisation
from cipipe.tools.terraform.shown import ShownPlan, ShownState, StateResource

# A warning: settings were given, and the root has no block that takes them.
_NO_BLOCK = "Missing backend configuration"

# An error: the lock file pins a provider that the constraints exclude.
_LOCKED_PROVIDER = "locked provider"

# The first version in which the backend for S3 locks without a table.
_LOCK_FILE_SINCE = (1, 10)

# What Terraform advises where something of `init` is missing.
_WANTS_INIT = re.compile(r"(?:terraform|tofu) init\b")

# A resource that no state has.
_PROBE = "terraform_data.cipipe_asks_for_the_lock"


@dataclass(frozen=True)
class Terraform:
    """Terraform in one root folder."""

    commands: Commands

    def init(self) -> None:
        """Set up the backend and the providers. A committed lock file is
        never changed.

        Raises RefusedError where the state would not be in the backend that
        the settings name.
        """
        commands = self.commands
        backend = commands.backend
        for secret in backend.secrets():
            commands.redactor.register(secret)

        remove_torn(commands.data_dir)
        # The workspace that an earlier command selected would count for
        # this one too.
        (commands.data_dir / "environment").unlink(missing_ok=True)

        settings = dict(backend.written())
        last = self._last_init()
        if last.is_current():
            commands.line("initialised already, from the same files and settings")
            return
        last.forget()

        lock_file = backend.locks_by_default and self._can_lock_by_file()
        self._init(settings | ({"use_lockfile": True} if lock_file else {}))

        found = in_force(commands.data_dir) or {}
        if lock_file and (found.get("config") or {}).get("dynamodb_table"):
            # The root's own block locks by a table, and so does everybody
            # else who uses the state.
            self._init(settings | {"use_lockfile": False})
        last.note()

    def create_state(self) -> None:
        """Create the workspace, and a state without resources, where there
        is none yet.

        A plan that was made without a state has no lineage. Terraform could
        not tell then that another run created one in the meantime.
        """
        commands = self.commands
        if commands.backend.keeps_workspaces and not self.has_workspace():
            name = str(commands.backend.workspace)
            created = commands.call(["workspace", "new", "-no-color", name], workspace=None)
            if created.returncode != 0 and b"already exists" not in created.stderr:
                raise commands.failed("workspace new", created)

        if not commands.backend.seeds or state_push.current(commands).lineage:
            return
        empty = {
            "version": 4,
            # The oldest version that has this format: Terraform refuses a
            # state of a newer one.
            "terraform_version": "1.0.0",
            "serial": 1,
            "lineage": str(uuid.uuid4()),
            "outputs": {},
            "resources": [],
        }
        stdin = msgspec.json.encode(empty)

        def push(lock: str, _: object) -> None:
            pushed = commands.call(["state", "push", "-no-color", lock, "-"], stdin=stdin)
            # Another run was faster. Then the plan is made against the
            # state that it created.
            lost_race = b"over unrelated state" in b" ".join(pushed.stderr.split())
            if pushed.returncode != 0 and not lost_race:
                raise commands.failed("state push", pushed)

        commands.locking(push)

    def has_workspace(self) -> bool:
        """Whether the workspace exists."""
        if not self.commands.backend.keeps_workspaces:
            return True
        # With TF_WORKSPACE set, this command would create the workspace.
        listed = self.commands.call(["workspace", "list", "-no-color"], workspace=None)
        if listed.returncode != 0:
            raise self.commands.failed("workspace list", listed)
        # One name a line; the selected one has a `*`.
        names = listed.stdout.decode(errors="replace").replace("*", " ").split()
        return self.commands.backend.workspace in names

    def plan(
        self,
        file: Path,
        *,
        var_files: Sequence[str] = (),
        destroy: bool = False,
        lock: bool = True,
    ) -> bool:
        """Save a plan to `file`; returns whether it changes anything."""
        arguments = ["plan", "-input=false", "-detailed-exitcode", f"-out={file}"]
        arguments.append(f"-lock={str(lock).lower()}")
        if destroy:
            arguments.append("-destroy")
        arguments += [f"-var-file={name}" for name in var_files]

        def run(wait: str, reader: Reader) -> bool:
            given = [*arguments, wait] if lock else arguments
            done = self.commands.stream(given, accept=(0, 2), reader=reader)
            # With -detailed-exitcode, 2 means that the plan has changes.
            return done.returncode == 2

        try:
            return self.commands.locking(run)
        except StageError as error:
            # A state may need providers that the root does not.
            if not _WANTS_INIT.search(error.message) or not self._last_init().forget():
                raise
        self.init()
        return self.commands.locking(run)

    def show(self, file: Path) -> ShownPlan:
        """What a saved plan would do. Secrets are in there in the clear."""
        shown: ShownPlan = self.commands.json(["show", "-json", str(file)], ShownPlan)
        return shown

    def apply(self, file: Path, log: ApplyLog | None = None) -> None:
        """Apply exactly this saved plan. `log` follows what happens to each resource."""

        def run(wait: str, reader: Reader) -> None:
            self.commands.stream(["apply", "-input=false", wait, str(file)], reader=reader)

        self.commands.locking(run, (log or ApplyLog()).line)

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What `terraform output -json` prints: `{type, value, sensitive}`
        by name.

        Sensitive values are registered with the redactor.
        """
        shape = dict[str, dict[str, Any]]
        found: dict[str, dict[str, Any]] = self.commands.json(["output", "-json"], shape)
        for output in found.values():
            if output.get("sensitive"):
                self.commands.redactor.register_value(output.get("value"))
        return found

    def identity_providers(self) -> frozenset[str]:
        """The hosts of the IAM OIDC providers in the state."""
        return frozenset(
            str(resource.values.get("url")).removeprefix("https://")
            for resource in self._state().resources()
            if resource.type == "aws_iam_openid_connect_provider" and resource.mode == "managed"
        )

    def managed(self) -> tuple[StateResource, ...]:
        """What the state has, in all modules. Secrets are in there in the clear."""
        return self._state().managed()

    def unlock(self, lock_id: str) -> None:
        """Release a lock that a killed run left. Only a person may want
        that.

        Raises StageError where there is no such lock. Some stores release
        any lock, whatever the ID: so the lock is requested first, by a
        command that changes nothing, and the refusal names the lock that is
        there.
        """
        commands = self.commands
        context = commands.lock_context
        probe = commands.call(["untaint", "-no-color", "-allow-missing", _PROBE])
        text = probe.stderr.decode(errors="replace")
        if probe.returncode == 0:
            raise locks.unknown(lock_id, None, context)
        if locks.REFUSED not in text:
            raise commands.failed("untaint", probe)

        present = locks.held(text, context)
        if present is not None and present.id != lock_id:
            raise locks.unknown(lock_id, present, context)
        # HCP Terraform names its locks in a sentence instead.
        named = f'lock ID: "{lock_id}"' in " ".join(text.split())
        if present is None and not named:
            raise locks.error(commands.redactor.text(text), context)

        released = commands.call(["force-unlock", "-no-color", "-force", "--", lock_id])
        if released.returncode != 0:
            raise commands.failed("force-unlock", released)

    def _last_init(self) -> Initialisation:
        return Initialisation(self.commands, self.commands.backend.written())

    def _init(self, settings: Mapping[str, Any]) -> None:
        commands = self.commands
        lock_file = commands.lock_file
        arguments = ["init", "-input=false", "-reconfigure"]
        if lock_file.path.is_file():
            arguments.append("-lockfile=readonly")
        if not settings:
            # With settings, Terraform warns of a missing block. Without, it
            # goes on with whatever an earlier `init` set up.
            forget_in_force(commands.data_dir)

        warnings: list[str] = []
        with settings_file(settings) as options:
            try:
                commands.stream([*arguments, *options], warned=warnings.append)
            except StageError as error:
                # The constraints may have changed since an earlier run in
                # this clone chose the providers.
                if _LOCKED_PROVIDER not in error.message or not lock_file.forget():
                    raise
                commands.stream([*arguments, *options], warned=warnings.append)

        found = None if _NO_BLOCK in warnings else in_force(commands.data_dir)
        if found is None or found["type"] != commands.backend.type:
            raise commands.not_kept(str(found["type"]) if found else None)

    def _state(self) -> ShownState:
        state: ShownState = self.commands.json(["show", "-json"], ShownState)
        return state

    def _can_lock_by_file(self) -> bool:
        found = version(self.commands.environment(), self.commands.program)
        if tuple(int(number) for number in re.findall(r"\d+", found)[:2]) >= _LOCK_FILE_SINCE:
            return True
        self.commands.line(
            f"warning: {self.commands.program} {found} cannot lock a state in S3 by a file, so "
            "nothing is locked: use 1.10 or newer, or set dynamodb_table in `backend`"
        )
        return False
