"""Replace marked literals with Terraform's outputs.

Exact to the byte: only the bytes of the literals change, and a file without
markers comes back as the same object.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Output
from cipipe.outputs import strings, terraform_type
from cipipe.redact import MASK
from cipipe.stages.dags.markers import problems
from cipipe.stages.dags.markers.scan import Marker, Target, markers, scan
from cipipe.stages.dags.markers.values import MismatchError, render

__all__ = ["Marker", "Patched", "Pending", "Replacement", "markers", "masked", "patch", "patch_all"]

# Stands for a value that is only known after apply. It is a literal, so that
# the file can still be searched for markers.
PLACEHOLDER = '"(known after apply)"'

# Columns that a literal may reach before it is written one item a line, and
# the fewest that it gets behind a long name.
_WIDTH = 120
_NARROWEST = 40


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """One literal that was replaced."""

    file: str
    line: int
    name: str
    output: str
    # Source text. That of a sensitive output is masked.
    old: str
    new: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A literal whose value is only known after apply. It stays as it is."""

    file: str
    line: int
    name: str
    output: str
    # For people, such as `list of string`.
    type: str


class Patched(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is uploaded."""

    body: bytes
    replacements: tuple[Replacement, ...] = ()
    warnings: tuple[Problem, ...] = ()
    # Literals that only a plan leaves as they are, and the file with
    # a placeholder for each of them, to be shown and never uploaded.
    pending: tuple[Pending, ...] = ()
    preview: bytes = b""


class _Known(msgspec.Struct, frozen=True):
    """What is known about the outputs."""

    outputs: Mapping[str, Output]
    # Ids of problems with a value that are only warnings.
    tolerate: frozenset[str]
    # Whether these are all outputs of deployed infrastructure.
    complete: bool

    def may_be_null(self, name: str) -> bool:
        """Whether a missing output may be one that is null, and its name no
        misspelling.

        Terraform leaves outputs that are null out of
        `terraform output -json`.
        """
        if not self.complete or name in self.outputs:
            return False
        return not difflib.get_close_matches(name, self.outputs, n=1)

    def is_pending(self, name: str) -> bool:
        """Whether the value is only known after apply."""
        return name in self.outputs and self.outputs[name].unknown


def patch(source: bytes, path: str, outputs: Mapping[str, Output]) -> Patched:
    """Patch one file. Raises ProblemsError with everything that is wrong with it."""
    return patch_all({path: source}, outputs)[path]


def patch_all(
    sources: Mapping[str, bytes],
    outputs: Mapping[str, Output],
    *,
    tolerate: frozenset[str] = frozenset(),
    complete: bool | None = None,
) -> dict[str, Patched]:
    """Patch a set of files. Raises ProblemsError with everything that is
    wrong with any of them.

    `tolerate` has ids of problems with an output's value that are only
    warnings; the literal stays as it is then. A plan needs that before the
    infrastructure is deployed: an output that the same commit adds is not
    known yet.

    `complete`: these are all outputs of deployed infrastructure, so a
    missing one may be null. By default, that is assumed where there are any
    outputs.
    """
    known = _Known(outputs, tolerate, bool(outputs) if complete is None else complete)
    patched = {}
    wrong: list[Problem] = []
    for path, source in sources.items():
        patched[path], found = _patched(source, path, known)
        wrong += found
    if wrong:
        count = f"{len(wrong)} problems" if len(wrong) > 1 else "a problem"
        message = f"the DAG files have {count} with their markers"
        raise ProblemsError("dags-patch-failed", message, tuple(wrong))
    return patched


def masked(source: bytes, path: str) -> bytes:
    """The file with every literal masked that may be a sensitive value: those `(sensitive ok)`."""
    found = scan(source, path)
    if found.text is None:
        return source
    mask = f'"{MASK}"'.encode(found.text.encoding)
    edits = [
        (target.start, target.end, mask) for target in found.targets if target.marker.sensitive_ok
    ]
    return _edited(source, edits)


def _patched(source: bytes, path: str, known: _Known) -> tuple[Patched, list[Problem]]:
    """One file patched, and what is wrong with it: then the patched file is of no use."""
    found = scan(source, path)
    wrong = list(found.problems)
    if found.text is None:
        return Patched(body=source, preview=source), wrong

    replacements = []
    pending = []
    notes: list[Problem] = []
    edits: list[tuple[int, int, bytes]] = []
    placeholders: list[tuple[int, int, bytes]] = []
    for target in found.targets:
        marker = target.marker
        value, problem = _value(target, known)
        if problem is not None and problem.id == problems.ABSENT:
            notes.append(problem)
        elif problem is not None:
            (notes if problem.id in known.tolerate else wrong).append(problem)
            continue
        elif known.is_pending(marker.output):
            placeholder = PLACEHOLDER.encode(found.text.encoding)
            placeholders.append((target.start, target.end, placeholder))
            pending.append(_pending(target, known))
            continue
        # Airflow would render it where an operator templates the field.
        if any("{{" in text for text in strings(value)):
            notes.append(problems.template(marker))

        new = _literal(target, value, found.text.newline)
        if new is not None:
            try:
                edits.append((target.start, target.end, new.encode(found.text.encoding)))
            except UnicodeError:
                wrong.append(problems.not_encodable(marker, found.text.encoding))
                continue
        replacements.append(_replacement(target, new, known))

    wrong.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))
    body = _edited(source, edits)
    patched = Patched(
        body=body,
        replacements=tuple(replacements),
        warnings=tuple(notes),
        pending=tuple(pending),
        preview=_edited(source, sorted([*edits, *placeholders])) if placeholders else body,
    )
    return patched, wrong


def _edited(source: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The source with some ranges replaced: (start, end, new bytes), in order."""
    if not edits:
        return source
    parts = []
    done = 0
    for start, end, new in edits:
        parts += [source[done:start], new]
        done = end
    return b"".join((*parts, source[done:]))


def _replacement(target: Target, new: str | None, known: _Known) -> Replacement:
    output = known.outputs.get(target.marker.output)
    hidden = output is not None and output.sensitive
    return Replacement(
        file=target.marker.path,
        line=target.marker.line,
        name=target.name,
        output=target.marker.output,
        old=MASK if hidden else target.literal,
        new=MASK if hidden else (target.literal if new is None else new),
    )


def _pending(target: Target, known: _Known) -> Pending:
    name = target.marker.output
    return Pending(
        file=target.marker.path,
        line=target.marker.line,
        name=target.name,
        output=name,
        type=terraform_type(known.outputs[name].type),
    )


def _value(target: Target, known: _Known) -> tuple[Any, Problem | None]:
    """The value for a literal, and what is wrong: then the value is None
    and means nothing.

    Only `dag-output-absent` comes with a value, which is None. One that is
    known after apply has none, and nothing wrong with it.
    """
    marker = target.marker
    if target.expected.optional and known.may_be_null(marker.output):
        return None, problems.absent(marker, target.name)

    output = known.outputs.get(marker.output)
    if output is None:
        return None, problems.unknown(marker, known.outputs)
    if output.sensitive and not marker.sensitive_ok:
        return None, problems.sensitive(marker)
    try:
        if output.unknown:
            target.expected.check_type(output.type)
            return None, None
        if output.value is msgspec.UNSET:
            return None, problems.withheld(marker)
        return target.expected.fit(output.value), None
    except MismatchError as error:
        return None, problems.mismatch(marker, target.name, error)


def _literal(target: Target, value: Any, newline: str) -> str | None:
    """The new literal; None where the one in the file has that value
    already.

    It keeps its spelling then: whoever wrote `0x10` or single quotes finds
    them again.
    """
    if render(value, width=0) == render(target.expected.default, width=0):
        return None
    return render(value, width=max(_NARROWEST, _WIDTH - target.column), newline=newline)
