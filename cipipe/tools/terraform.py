"""The one door to Terraform: argument lists, its machine-readable log (`-json`), its plan and its outputs.

Sources: developer.hashicorp.com/terraform/internals/machine-readable-ui and …/internals/json-format.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cipipe.errors import ConflictError, StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools import process

_LOCK = "Error acquiring the state lock"
# What would make Terraform do something else than the plan says: another workspace is another state.
_FOREIGN = ("TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR", "TF_LOG", "TF_REATTACH_PROVIDERS")
_QUIET = {"version", "outputs", "refresh_start", "refresh_complete", "resource_drift"}


class Change(msgspec.Struct, frozen=True):
    """One resource in a plan: its address, its type, the actions (`create`, `update`, `delete`, …), and what it was.

    `tainted` ones are replaced because they were never wholly created, or because somebody said `terraform taint`.
    """

    address: str
    type: str
    actions: tuple[str, ...]
    before: dict[str, Any] = {}
    tainted: bool = False

    @property
    def destroys(self) -> bool:
        return "delete" in self.actions


@dataclass(frozen=True)
class Terraform:
    """Terraform in one root folder. `env` is the children's whole environment, credentials included.

    `data_dir` keeps providers, modules and the backend's settings out of the work tree, one per environment.
    `unlock_command` is what a person has to run, with the lock's ID behind it, when a lock was left.
    """

    root: Path
    data_dir: Path
    env: Mapping[str, str]
    redactor: Redactor
    line: Callable[[str], None]
    unlock_command: str
    interrupt: Interrupt | None = None

    def init(self, backend: Mapping[str, str]) -> None:
        """Set the backend and the providers up; the lock file, where there is one, is never changed."""
        arguments = [f"-backend-config={key}={value}" for key, value in sorted(backend.items())]
        if (self.root / ".terraform.lock.hcl").is_file():
            arguments.append("-lockfile=readonly")
        self._run(["init", "-input=false", "-reconfigure", *arguments])

    def plan(
        self,
        file: Path,
        *,
        var_files: Sequence[str] = (),
        destroy: bool = False,
        lock: bool = True,
    ) -> bool:
        """Save a plan to `file`; says whether it changes anything."""
        arguments = ["plan", "-input=false", "-detailed-exitcode", f"-out={file}", f"-lock={str(lock).lower()}"]
        arguments += ["-destroy"] if destroy else []
        arguments += [f"-var-file={name}" for name in var_files]
        return self._run(arguments, accept=(0, 2)).returncode == 2

    def changes(self, file: Path) -> tuple[Change, ...]:
        """What a saved plan would do, resource by resource."""
        shown = self._json(["show", "-json", str(file)])
        return tuple(
            Change(
                entry["address"],
                entry["type"],
                tuple(entry["change"]["actions"]),
                entry["change"].get("before") or {},
                entry.get("action_reason") == "replace_because_tainted",
            )
            for entry in shown.get("resource_changes", ())
            if entry.get("mode") == "managed" and entry["change"]["actions"] != ["no-op"]
        )

    def planned_outputs(self, file: Path) -> frozenset[str]:
        """The names of the outputs that there will be when a saved plan has been applied."""
        return frozenset(self._json(["show", "-json", str(file)]).get("planned_values", {}).get("outputs", ()))

    def apply(self, file: Path) -> None:
        """Apply exactly that saved plan."""
        self._run(["apply", "-input=false", str(file)])

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What `terraform output -json` prints: name → `{type, value, sensitive}`. Secrets are registered."""
        found = self._json(["output", "-json"])
        for output in found.values():
            if output.get("sensitive"):
                for secret in _strings(output.get("value")):
                    self.redactor.register(secret)
        return dict(found)

    def identity_providers(self) -> frozenset[str]:
        """The hosts of the IAM OIDC providers in the state."""
        state = self._json(["show", "-json"])
        resources = (state.get("values") or {}).get("root_module", {}).get("resources", ())
        return frozenset(
            str(entry["values"]["url"]).removeprefix("https://")
            for entry in resources
            if entry["type"] == "aws_iam_openid_connect_provider" and entry.get("mode") == "managed"
        )

    def unlock(self, lock_id: str) -> None:
        """Release a lock that a killed run left. Only ever asked for by a person."""
        process.stream(
            ["terraform", "force-unlock", "-force", "--", lock_id],
            env=self._environment(),
            line=self.line,
            cwd=self.root,
            redactor=self.redactor,
            interrupt=self.interrupt,
        )

    def _json(self, arguments: Sequence[str]) -> Any:
        done = process.run(["terraform", *arguments], env=self._environment(), cwd=self.root, redactor=self.redactor)
        return msgspec.json.decode(done.stdout)

    def _run(self, arguments: Sequence[str], *, accept: Sequence[int] = (0,)) -> process.Completed:
        """Run a command with its machine-readable log, and make its diagnostics the error, where it fails."""
        diagnostics: list[dict[str, Any]] = []
        verb, *rest = arguments

        def heard(text: str) -> None:
            message = _decoded(text)
            if message is None:
                if text.strip():
                    self.line(text)
                return
            if message.get("type") == "diagnostic" and message["diagnostic"].get("severity") == "error":
                diagnostics.append(message["diagnostic"])
            elif message.get("type") not in _QUIET:
                self.line(str(message.get("@message", "")))

        argv = ["terraform", verb, "-json", "-no-color", *rest]
        try:
            return process.stream(
                argv,
                env=self._environment(),
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

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in self.env.items() if not key.startswith(_FOREIGN)}
        return {
            **kept,
            "TF_DATA_DIR": str(self.data_dir),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }

    def _explained(self, verb: str, diagnostics: Sequence[Mapping[str, Any]]) -> StageError | ConflictError:
        for found in diagnostics:
            if _LOCK in found.get("summary", ""):
                return _locked(found.get("detail", ""), self.root, self.unlock_command)
        texts = []
        for found in diagnostics:
            place = found.get("range") or {}
            where = f"{place['filename']}:{place['start']['line']}: " if place else ""
            address = f" ({found['address']})" if found.get("address") else ""
            texts.append(f"{where}{found.get('summary', '')}{address}: {found.get('detail', '')}".rstrip(": \n"))
        return StageError(
            "terraform-failed",
            f"terraform {verb} failed: " + "\n".join(texts),
            hint="The message is Terraform's or the provider's own; its files lie in the folder below.",
            where=self.root.name,
        )


def version(env: Mapping[str, str]) -> str:
    """The version of Terraform, such as `1.11.4`. Raises ToolMissing, ProcessFailed. Nobody is asked for a newer one."""
    done = process.run(["terraform", "version", "-json"], env={**env, "CHECKPOINT_DISABLE": "1"})
    return str(msgspec.json.decode(done.stdout)["terraform_version"])


def _locked(detail: str, root: Path, unlock_command: str) -> ConflictError:
    info = dict(re.findall(r"^\s*(ID|Path|Operation|Who|Created):\s*(.*?)\s*$", detail, re.MULTILINE))
    identifier = info.get("ID", "LOCK_ID")
    return ConflictError(
        "terraform-locked",
        f"the Terraform state is locked by {info.get('Who', 'somebody else')} since {info.get('Created', 'unknown')} "
        f"({info.get('Operation', 'an operation')}, lock ID {identifier}, {info.get('Path', 'path unknown')})",
        hint="If that run is still going, let it finish. If it was killed, release its lock by hand: "
        f"{unlock_command} {identifier}",
        where=root.name,
    )


def _decoded(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, dict) and "@level" in message else None


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [] if value is None or isinstance(value, bool) else [str(value)]
