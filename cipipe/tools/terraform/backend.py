"""The backend of a Terraform root, and how Terraform gets its settings.

Settings are passed in a private file, secrets in the environment: every
user of the machine can read an argument list.
https://developer.hashicorp.com/terraform/language/backend
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe import bounded
from cipipe.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from cipipe.tools.terraform.blocks import Declared

Value = str | bool | int | float | tuple[str, ...] | dict[str, str | bool | int | tuple[str, ...]]
"""A setting of a backend."""

NOT_KEPT = frozenset({"local", "inmem"})
"""Types whose state is lost with the job."""

# HCP Terraform, which runs Terraform itself.
_HCP = frozenset({"cloud", "remote"})

# Secret settings, and the variables that Terraform reads instead. It writes
# settings into its data folder and into saved plans, but not what it reads
# from the environment.
_SECRET: dict[str, dict[str, str]] = {
    "azurerm": {
        "access_key": "ARM_ACCESS_KEY",
        "sas_token": "ARM_SAS_TOKEN",
        "client_secret": "ARM_CLIENT_SECRET",
        "client_certificate_password": "ARM_CLIENT_CERTIFICATE_PASSWORD",
        "oidc_token": "ARM_OIDC_TOKEN",
    },
    "consul": {"access_token": "CONSUL_HTTP_TOKEN", "http_auth": "CONSUL_HTTP_AUTH"},
    "gcs": {
        "access_token": "GOOGLE_OAUTH_ACCESS_TOKEN",
        "credentials": "GOOGLE_BACKEND_CREDENTIALS",
        "encryption_key": "GOOGLE_ENCRYPTION_KEY",
    },
    "http": {
        "username": "TF_HTTP_USERNAME",
        "password": "TF_HTTP_PASSWORD",
        "client_private_key_pem": "TF_HTTP_CLIENT_PRIVATE_KEY_PEM",
    },
    "pg": {"conn_str": "PG_CONN_STR"},
    "s3": {"sse_customer_key": "AWS_SSE_CUSTOMER_KEY"},
}
# A `cloud` block takes no settings on the command line at all.
_CLOUD = {
    "organization": "TF_CLOUD_ORGANIZATION",
    "hostname": "TF_CLOUD_HOSTNAME",
    "project": "TF_CLOUD_PROJECT",
}
# Not secret, though it is passed like the password beside it.
_PUBLIC = frozenset({"TF_HTTP_USERNAME"})


class Backend(msgspec.Struct, frozen=True):
    """A backend."""

    type: str = "s3"
    settings: dict[str, Value] = {}
    # One of Terraform's workspaces; None: `default`.
    workspace: str | None = None

    @property
    def keeps_workspaces(self) -> bool:
        """Whether `workspace new` creates a workspace; HCP Terraform creates its own."""
        return self.workspace not in {None, "default"} and self.type not in _HCP

    @property
    def seeds(self) -> bool:
        """Whether an empty state may be pushed; HCP Terraform orders its runs itself."""
        return self.type not in _HCP

    @property
    def reports_own_lock(self) -> bool:
        """Whether the error of a refused lock describes our attempt, not the lock in the way."""
        return self.type in {"pg", "http"}

    @property
    def locks_by_default(self) -> bool:
        """Whether to lock by a file in S3, because no setting says how to lock."""
        chosen = {"use_lockfile", "dynamodb_table", "dynamodb_endpoint"}
        return self.type == "s3" and not chosen & self.settings.keys()

    def variables(self) -> dict[str, str]:
        """The settings that are passed in the environment."""
        names = _CLOUD if self.type == "cloud" else _SECRET.get(self.type, {})
        return {names[key]: str(value) for key, value in self.settings.items() if key in names}

    def secrets(self) -> list[str]:
        """The values among them that are secret."""
        if self.type == "cloud":
            return []
        return [value for name, value in self.variables().items() if name not in _PUBLIC]

    def written(self) -> dict[str, Value]:
        """The settings that are passed in a file."""
        if self.type == "cloud":
            return {}
        kept = _SECRET.get(self.type, {})
        return {key: value for key, value in self.settings.items() if key not in kept}


@contextmanager
def settings_file(settings: Mapping[str, Value]) -> Iterator[list[str]]:
    """The arguments of `init` for these settings: the name of a private file with them."""
    if not settings:
        yield []
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cipipe-backend-") as folder:
        file = Path(folder) / "settings.tfbackend.json"
        file.write_bytes(msgspec.json.encode(settings))
        yield [f"-backend-config={file}"]


def forget_in_force(data_dir: Path) -> None:
    """Forget which backend an earlier `init` set up.

    An `init` without settings would leave that as it is when the block is
    gone.
    """
    (data_dir / "terraform.tfstate").unlink(missing_ok=True)


def remove_torn(data_dir: Path) -> None:
    """Remove files that a killed `init`, or one on a full disk, wrote only
    half of.

    Every later command would fail to read them. The next `init` writes both
    again.
    """
    for file in (data_dir / "terraform.tfstate", data_dir / "modules" / "modules.json"):
        try:
            bounded.decode(file.read_bytes())
        except FileNotFoundError:
            continue
        except msgspec.DecodeError:
            file.unlink(missing_ok=True)


def in_force(data_dir: Path) -> dict[str, Any] | None:
    """The backend that `init` set up: `{type, config}`. None where the root has no block for it."""
    try:
        found = bounded.decode((data_dir / "terraform.tfstate").read_bytes())
        backend = found.get("backend")
    except (FileNotFoundError, AttributeError, msgspec.DecodeError):
        return None
    return backend if isinstance(backend, dict) and backend.get("type") else None


def refuse_workspace_variable(env: Mapping[str, str], workspace: str | None) -> None:
    """Raise UsageError where TF_WORKSPACE selects another state than the configuration does."""
    wanted = env.get("TF_WORKSPACE", "")
    if wanted and wanted != (workspace or "default"):
        configured = f"workspace {workspace!r}" if workspace else "no workspace"
        raise UsageError(
            "terraform-workspace-variable",
            f"TF_WORKSPACE={wanted} selects another state than the configuration, which says "
            f"{configured}",
            hint=f'Unset TF_WORKSPACE. If you want that workspace, set workspace = "{wanted}" in '
            "the stage; placeholders such as {environment} work there.",
            where="TF_WORKSPACE",
        )


def not_kept(
    actual: str | None, *, wanted: str, root: str, declared: "Declared | None"
) -> RefusedError:
    """The error of a root whose state is not in the backend that the
    settings are for.

    `actual` is the root's own backend; None where it declares none.
    """
    block = "cloud {}" if wanted == "cloud" else f'backend "{wanted}" {{}}'
    place = f"{root}/{declared.file}:{declared.line}" if declared else f"{root}/backend.tf"
    if actual is not None and actual not in NOT_KEPT:
        return RefusedError(
            "terraform-backend-mismatch",
            f"the Terraform root {root} keeps its state in backend {actual!r}, and the stage's "
            f"settings are for backend {wanted!r}. Nothing was planned.",
            hint=f'Set type = "{actual}" in the stage\'s `backend`, with the settings of that '
            f"backend; or write {block} in {place}.",
            where=place,
        )

    lines = "\n".join(("  terraform {", f"    {block}", "  }"))
    if actual:
        has = f'has backend "{actual}"'
        needs = f'Instead of backend "{actual}" it needs'
        change = "Replace the block in"
    else:
        has = "has no `backend` block"
        needs = "It needs"
        change = "Add these lines to"
    return RefusedError(
        "terraform-state-not-kept",
        f"the Terraform root {root} {has}: its state would be lost with this job. "
        f"Nothing was planned. {needs}:\n{lines}",
        hint=f"{change} {place} and commit that. cipipe passes the stage's `backend` settings to "
        "the block.",
        where=place,
    )
