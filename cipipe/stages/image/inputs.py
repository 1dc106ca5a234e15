"""What an image is made from: its Dockerfile, and what that copies from the context."""

import posixpath
from collections.abc import Iterator

from cipipe.stages.base import MAX_INPUT, Input
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Entry, Repository


def inputs(stage: Stage[ImageSettings], repository: Repository, tree: str) -> Iterator[Input]:
    """The Dockerfile, the ignore files, and what the Dockerfile copies from
    the context.

    With an ignore file it is not known what of a folder goes into the
    image.
    """
    settings = stage.settings
    context = repository_path(settings.context)
    dockerfile = repository_path(context, settings.dockerfile)
    ignore_files = (f"{dockerfile}.dockerignore", repository_path(context, ".dockerignore"))

    yield Input(path=context, used_by="context", some=True)
    yield Input(path=dockerfile, used_by="dockerfile")
    for path in ignore_files:
        yield Input(path=path, used_by="context")

    entries = _listing(repository, tree, context)
    if posixpath.dirname(dockerfile) != context:
        entries |= _listing(repository, tree, posixpath.dirname(dockerfile))
    file = entries.get(dockerfile)
    if file is None or not file.is_blob:
        return

    known_args = {
        name: value if isinstance(value, str) else None
        for name, value in settings.build_args.items()
    }
    some = not entries.keys().isdisjoint(ignore_files)
    for body in repository.blobs([file]).values():
        if len(body) > MAX_INPUT:
            continue
        from cipipe.stages.image.dockerfile import copy_sources, split_wildcards

        for line, source, exclude in copy_sources(body, known_args):
            folder, wildcard = split_wildcards(source)
            yield Input(
                path=repository_path(context, folder),
                used_by=f"{dockerfile}:{line}",
                some=some,
                wildcard=wildcard,
                exclude=exclude,
            )


def _listing(repository: Repository, tree: str, folder: str) -> dict[str, Entry]:
    entries = repository.listing(tree, folder)
    return {entry.path.decode(errors="surrogateescape"): entry for entry in entries}
