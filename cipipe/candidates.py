"""Configuration + content of a commit → the candidates for deployment, each
with its fingerprint.

Pure, like the planner, which decides which of them are due.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from cipipe.config import Config
from cipipe.errors import UsageError
from cipipe.fingerprint import digest
from cipipe.graph import ordered
from cipipe.model import FINGERPRINT_TAG_LENGTH
from cipipe.stages.settings import AnyStage, Reference, references, replaced


class Candidate(msgspec.Struct, frozen=True):
    """A stage with all that is known from the commit alone."""

    # Variables and fingerprints are filled in, outputs are not yet.
    stage: AnyStage

    fingerprint: str

    # What `Contents` gives of its files.
    content: Sequence[bytes]

    @property
    def has_files(self) -> bool:
        return bool(self.content)

    @property
    def tag(self) -> str:
        """The fingerprint as image tags and `{ fingerprint = … }` have it."""
        return self.fingerprint[:FINGERPRINT_TAG_LENGTH]


def make_candidates(
    config: Config,
    contents: Mapping[str, Sequence[bytes]],
    env: Mapping[str, str],
    known: Mapping[str, Candidate] | None = None,
) -> dict[str, Candidate]:
    """The candidate of every stage. `contents` is what `Contents` gives;
    what is the same as in `known` is not hashed again.

    Raises UsageError where a variable that a setting names is not set.
    """
    known = known or {}
    graph = {
        name: tuple(r.fingerprint for _, r in references(stage.settings) if r.fingerprint)
        for name, stage in config.stages.items()
    }
    made: dict[str, Candidate] = {}
    # A fingerprint counts into those of the stages that use it, so it comes
    # before them.
    for name in ordered(graph):
        stage = config.stages[name]
        settings = replaced(stage.settings, _filler(name, made, env))
        if settings is not stage.settings:
            stage = msgspec.structs.replace(stage, settings=settings)
        content = contents.get(name, ())

        same = known.get(name)
        if same is not None and (same.stage, same.content) == (stage, content):
            made[name] = same
            continue
        counted = {"paths": stage.paths, "settings": settings.counted()}
        made[name] = Candidate(stage, digest(stage.kind, counted, content), content)
    return {name: made[name] for name in config.stages}


def _filler(
    name: str, made: Mapping[str, Candidate], env: Mapping[str, str]
) -> Callable[[Reference | str], object]:
    """What fills in a setting of a stage: variables and fingerprints, not outputs."""

    def fill(value: Reference | str) -> object:
        if isinstance(value, str) or value.output is not None:
            return value
        if value.fingerprint is not None:
            return made[value.fingerprint].tag
        found = env.get(value.env or "", value.default)
        if found is None:
            default = f'{{ env = "{value.env}", default = "…" }}'
            raise UsageError(
                "setting-variable-unset",
                f"a setting of stage {name} comes from the variable {value.env}, which is not set",
                hint=f"Set {value.env}, or give the setting a default: {default}.",
                where=f"stages.{name}",
            )
        return found

    return fill
