"""The image with the dbt project: its Dockerfile, and the folder that it is built from."""

import msgspec

from cipipe.pipeline.adoption.files import Files, folder


class FoundImage(msgspec.Struct, frozen=True, kw_only=True):
    # The folder of the Dockerfile.
    context: str
    # The folder of dbt_project.yml.
    project: str


def images(files: Files) -> list[FoundImage]:
    """An image for each dbt project that has a Dockerfile beside it or above it."""
    dockerfiles = {folder(path) for path in files if path.rpartition("/")[2] == "Dockerfile"}
    found: dict[str, FoundImage] = {}
    for path in files:
        if path.rpartition("/")[2] != "dbt_project.yml":
            continue
        project = folder(path)
        context = next((above for above in _upwards(project) if above in dockerfiles), None)
        if context is not None:
            found.setdefault(context, FoundImage(context=context, project=project))
    return list(found.values())


def _upwards(path: str) -> list[str]:
    """A folder and those that it is in, the top last."""
    parts = [] if path == "." else path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)] + ["."]
