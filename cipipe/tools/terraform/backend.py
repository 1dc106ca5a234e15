"""Where a Terraform root keeps its state: the backend's type and settings, and how Terraform gets
them.

Settings reach Terraform in a private file, secrets in its environment: an argument list is there
for every user of the machine to read. Sources: developer.hashicorp.com/terraform/language/backend
and its pages on each backend.
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
"""A setting of a backend, as Terraform takes it."""

NOT_KEPT = frozenset({"local", "inmem"})
"""Types whose state is gone when the job has ended."""

_HCP = frozenset({"cloud", "remote"})

# Terraform writes what it gets as a setting into its data folder and into saved plans; what it
# reads here, it does not.
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
_CLOUD = {
    "organization": "TF_CLOUD_ORGANIZATION",
    "hostname": "TF_CLOUD_HOSTNAME",
    "project": "TF_CLOUD_PROJECT",
}
_PUBLIC = frozenset({"TF_HTTP_USERNAME"})


class Backend(msgspec.Struct, frozen=True):
    """A backend. `workspace` is the one of Terraform's workspaces that is used, `default` if left
    out.
    """

    type: str = "s3"
    settings: dict[str, Value] = {}
    workspace: str | None = None

    @property
    def keeps_workspaces(self) -> bool:
        """Whether a workspace is made by `workspace new`; HCP Terraform makes its own."""
        return self.workspace not in {None, "default"} and self.type not in _HCP

    @property
    def seeds(self) -> bool:
        """Whether an empty state may be pushed; HCP Terraform orders its runs itself."""
        return self.type not in _HCP

    @property
    def tells_own_lock(self) -> bool:
        """Whether a refused lock comes with the info of the one that was asked for, not of the one
        that is held.
        """
        return self.type in {"pg", "http"}

    @property
    def locks_by_default(self) -> bool:
        """Whether S3's lock file is asked for although no setting says so."""
        chosen = {"use_lockfile", "dynamodb_table", "dynamodb_endpoint"}
        return self.type == "s3" and not chosen & self.settings.keys()

    def variables(self) -> dict[str, str]:
        """The settings that Terraform gets in its environment."""
        names = _CLOUD if self.type == "cloud" else _SECRET.get(self.type, {})
        return {names[key]: str(value) for key, value in self.settings.items() if key in names}

    def secrets(self) -> list[str]:
        """The values among them that are secret."""
        if self.type == "cloud":
            return []
        return [value for name, value in self.variables().items() if name not in _PUBLIC]

    def written(self) -> dict[str, Value]:
        """The settings that Terraform gets in a file."""
        if self.type == "cloud":
            return {}
        kept = _SECRET.get(self.type, {})
        return {key: value for key, value in self.settings.items() if key not in kept}


@contextmanager
def settings_file(settings: Mapping[str, Value]) -> Iterator[list[str]]:
    """The arguments of `init` that name a private file with these settings; none where there are
    none.
    """
    if not settings:
        yield []
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cipipe-backend-") as folder:
        file = Path(folder) / "settings.tfbackend.json"
        file.write_bytes(msgspec.json.encode(settings))
        yield [f"-backend-config={file}"]


def forget_in_force(data_dir: Path) -> None:
    """Forget which backend an earlier `init` set up: one without settings leaves that as it is, if
    the block is gone.
    """
    (data_dir / "terraform.tfstate").unlink(missing_ok=True)


def remove_torn(data_dir: Path) -> None:
    """Remove what a killed `init`, or one whose disk was full, wrote half: Terraform fails to read
    it for ever after.

    A new `init` writes both files again.
    """
    for file in (data_dir / "terraform.tfstate", data_dir / "modules" / "modules.json"):
        try:
            bounded.decode(file.read_bytes())
        except FileNotFoundError:
            continue
        except msgspec.DecodeError:
            file.unlink(missing_ok=True)


def in_force(data_dir: Path) -> dict[str, Any] | None:
    """The backend that `init` set up: `{type, config}`; None where the root has no block for one."""
    try:
        found = bounded.decode((data_dir / "terraform.tfstate").read_bytes())
        backend = found.get("backend")
    except (FileNotFoundError, AttributeError, msgspec.DecodeError):
        return None
    return backend if isinstance(backend, dict) and backend.get("type") else None


def refuse_workspace_variable(env: Mapping[str, str], workspace: str | None) -> None:
    """Raise UsageError where TF_WORKSPACE asks for another state than the configuration does."""
    wanted = env.get("TF_WORKSPACE", "")
    if wanted and wanted != (workspace or "default"):
        raise UsageError(
            "terraform-workspace-variable",
            f"TF_WORKSPACE={wanted} asks for another state than the configuration, which says "
            f"{f'workspace {workspace!r}' if workspace else 'no workspace'}",
            hint=f'Unset TF_WORKSPACE. If that workspace is meant, set workspace = "{wanted}" in the stage; '
            "placeholders such as {environment} may be used there.",
            where="TF_WORKSPACE",
        )


def not_kept(
    actual: str | None, *, wanted: str, root: str, declared: "Declared | None"
) -> RefusedError:
    """The error of a root whose state is not kept where the settings say; `actual` is None without
    a block.
    """
    block = "  cloud {}" if wanted == "cloud" else f'  backend "{wanted}" {{}}'
    place = f"{root}/{declared.file}:{declared.line}" if declared else f"{root}/backend.tf"
    if actual is not None and actual not in NOT_KEPT:
        return RefusedError(
            "terraform-backend-mismatch",
            f"the Terraform root {root} keeps its state in backend {actual!r}, and the stage's settings are those of "
            f"backend {wanted!r}. Nothing was planned.",
            hint=f'Set type = "{actual}" in the stage\'s `backend`, with the settings of that backend; or write '
            f"{block.strip()} in {place}.",
            where=place,
        )
    has = f'has backend "{actual}"' if actual else "has no `backend` block"
    needs = f'Instead of backend "{actual}" it needs' if actual else "It lacks"
    lines = "\n".join(f"  {line}" for line in ("terraform {", block, "}"))
    return RefusedError(
        "terraform-state-not-kept",
        f"the Terraform root {root} {has}: its state would be lost with this job. Nothing was planned. "
        f"{needs}:\n{lines}",
        hint=f"{'Replace the block in' if actual else 'Add these lines to'} {place} and commit that. cipipe hands the "
        "stage's `backend` settings to the block.",
        where=place,
    )
