"""Everything that was found in a repository, and what is answered by default."""

import re
from collections.abc import Iterable

import msgspec

from cipipe.config.names import NAME
from cipipe.pipeline.adoption.dag_sources import FoundDags, dags
from cipipe.pipeline.adoption.files import Files
from cipipe.pipeline.adoption.image_contexts import FoundImage, images
from cipipe.pipeline.adoption.terraform_roots import FoundRoot, roots

_PARENTS = {"environments", "environment", "envs", "env", "live", "accounts"}
_LAST = ("live", "prod", "production", "prd")
# Not any number in an ARN: that may be the account of somebody else.
_ACCOUNT = re.compile(
    rb'^\s*"?(?:(?:aws_)?account_id|allowed_account_ids)"?\s*[=:]\s*\[?\s*"(\d{12})"',
    re.MULTILINE,
)
_REGION = re.compile(rb'\b(?:aws_)?region"?\s*[=:]\s*"([a-z]{2}(?:-[a-z]+)+-\d)"')
_REMOTE = re.compile(r"(?:\w+://)?(?:[^@/\s]+@)?([\w.-]+)(?::\d+)?[:/](.+?)(?:\.git)?/?")


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    roots: tuple[FoundRoot, ...]
    # The folder whose subfolders are one root per environment.
    per_environment: str | None
    image: FoundImage | None
    dags: FoundDags | None
    environments: tuple[str, ...]
    # By environment.
    accounts: dict[str, str]
    regions: dict[str, str]
    # Outputs of the roots, by what they are for: `repository`, `bucket`, `mwaa`.
    outputs: dict[str, str]
    # Existing pipeline files that do not call cipipe; they stay as they are.
    pipelines: tuple[str, ...]


def survey(files: Files, environments: tuple[str, ...] = ()) -> Survey:
    """What the files show. `environments`: those that somebody named."""
    found = roots(files)
    parent = _parent(found)
    if parent is not None:
        found = [root for root in found if root.path.startswith(f"{parent}/")]
    names = environments or _environments(found, parent) or ("dev",)
    contexts = images(files)
    return Survey(
        roots=tuple(found),
        per_environment=parent,
        image=contexts[0] if contexts else None,
        dags=dags(files),
        environments=names,
        accounts=_values(_ACCOUNT, names, files),
        regions=_values(_REGION, names, files),
        outputs=_outputs(found),
        pipelines=tuple(
            path
            for path, body in files.items()
            if path.endswith((".yml", ".yaml")) and path[0] == "." and b"cipipe run" not in body
        ),
    )


def project_at(remote: str) -> tuple[str, str] | None:
    """The host and the project's path in the address of a git remote."""
    found = _REMOTE.fullmatch(remote.strip())
    return (found[1], found[2].strip("/")) if found else None


def _parent(found: list[FoundRoot]) -> str | None:
    """The folder with one root for each environment, all with the same backend."""
    parents: dict[str, set[str | None]] = {}
    for root in found:
        above = root.path.rpartition("/")[0]
        if above.rpartition("/")[2] in _PARENTS:
            parents.setdefault(above, set()).add(root.backend)
    return next((path for path, backends in parents.items() if len(backends) == 1), None)


def _environments(found: list[FoundRoot], parent: str | None) -> tuple[str, ...]:
    if parent is not None:
        names = {root.path.removeprefix(f"{parent}/") for root in found}
    else:
        files = [name for root in found for name in root.var_files]
        names = {name.rpartition("/")[2].removesuffix(".tfvars") for name in files}
        names = {name for name in names if name != "terraform" and not name.endswith(".auto")}
    good = sorted(name for name in names if NAME.fullmatch(name))
    return tuple(sorted(good, key=lambda name: (name in _LAST, name != "dev", name)))


def _values(pattern: re.Pattern[bytes], names: Iterable[str], files: Files) -> dict[str, str]:
    """What the pattern finds for each environment: in its own files, else in all."""
    own: dict[str, str] = {}
    common: set[str] = set()
    for path, body in files.items():
        if not path.endswith((".tf", ".tf.json", ".tfvars")):
            continue
        found = pattern.search(body)
        if found is None:
            continue
        value = found[1].decode()
        parts = path.removesuffix(".tfvars").split("/")
        owners = [name for name in names if name in parts]
        for name in owners:
            own.setdefault(name, value)
        if not owners:
            common.add(value)
    # Several values that belong to no environment decide nothing.
    rest = next(iter(common)) if len(common) == 1 else None
    every = {name: own.get(name) or rest for name in names}
    return {name: value for name, value in every.items() if value is not None}


def _outputs(found: list[FoundRoot]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for root in found:
        for name, block in root.outputs.items():
            if "repository_url" in block or re.search(r"(ecr|repository).*url", name):
                chosen.setdefault("repository", name)
            elif "dag" in name and "bucket" in name and not re.search(r"arn|url|prefix", name):
                chosen.setdefault("bucket", name)
            elif "mwaa" in name and name.endswith("name"):
                chosen.setdefault("mwaa", name)
    return chosen
