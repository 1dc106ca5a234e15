"""What a Terraform root is made from: its files, and all that they refer to."""

from collections.abc import Iterator

from cipipe.stages.base import MAX_INPUT, Input
from cipipe.stages.links import Links
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.tools.git.client import Repository

_MODULE = (".tf", ".tf.json", ".tofu", ".tofu.json")
_ROOT = (*_MODULE, "terraform.tfvars", ".auto.tfvars", ".terraform.lock.hcl")


def inputs(stage: Stage[TerraformSettings], repository: Repository, tree: str) -> Iterator[Input]:
    """The root, its variable files, the local modules that it uses,
    directly or not, and the files that all of these read.
    """
    settings = stage.settings
    root = repository_path(settings.root)
    yield Input(path=root, used_by="root", endings=_ROOT, flat=True)
    for number, file in enumerate(settings.var_files):
        yield Input(path=repository_path(root, file), used_by=f"var_files[{number}]")

    links = Links(repository, tree)
    seen = {root}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for found, is_module in _referred(links, root, folder):
            if not is_module:
                yield found
            elif found.path not in seen:
                seen.add(found.path)
                waiting.append(found.path)
                yield found


def _referred(links: Links, root: str, folder: str) -> Iterator[tuple[Input, bool]]:
    """What the files of one module refer to, and whether it is another module."""
    # Most plans have no due Terraform stage and never read a Terraform
    # file.
    from cipipe.stages.terraform.files import hcl

    for name, body in _files(links, folder):
        is_json = name.endswith(".json")
        for found in hcl.references_in_json(body) if is_json else hcl.references_in(body):
            used_by = f"{repository_path(folder, name)}:{found.line}"
            base = root if found.base == "root" else folder
            path = links.followed(repository_path(base, found.path))
            if found.pattern is not None:
                for pattern in hcl.alternatives(found.pattern):
                    yield Input(path=path, used_by=used_by, wildcard=pattern, flat=True), False
            elif found.is_module:
                yield Input(path=path, used_by=used_by, endings=_MODULE, flat=True), True
            else:
                yield Input(path=path, used_by=used_by), False


def _files(links: Links, folder: str) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a module's files, links followed."""
    names = [name for name in links.listing(folder) if name.endswith(_MODULE)]
    files = {name: links.file(folder, name) for name in names}
    entries = {name: entry for name, entry in files.items() if entry is not None}
    blobs = links.repository.blobs(entries.values())
    for name, entry in sorted(entries.items()):
        body = blobs.get(entry.path, b"")
        if len(body) <= MAX_INPUT:
            yield name, body
