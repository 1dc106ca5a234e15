"""Put Terraform's outputs in place of marked literals. Pure, and exact to the byte.

Only the bytes of the literal change; a file without markers comes back as the same object.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Output
from cipipe.outputs import strings
from cipipe.redact import MASK
from cipipe.stages.dags.markers.scan import Marker, Target, markers, scan
from cipipe.stages.dags.markers.values import MismatchError, render

__all__ = ["Marker", "Patched", "Replacement", "markers", "masked", "patch", "patch_all"]

_WIDTH = 120
_NARROWEST = 40


class Replacement(msgspec.Struct, frozen=True):
    """One literal that was replaced. `old` and `new` are source text; those of a sensitive output
    are masked.
    """

    file: str
    line: int
    name: str
    output: str
    old: str
    new: str


class Patched(msgspec.Struct, frozen=True):
    """A file as it is to be uploaded."""

    body: bytes
    replacements: tuple[Replacement, ...] = ()
    warnings: tuple[Problem, ...] = ()


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
    """Patch a set of files. Raises ProblemsError with everything that is wrong with any of them.

    `tolerate` names problems with an output's value that are warnings here; the literal is left
    alone. Before the infrastructure is deployed, an output that the same commit adds is not known
    yet. `complete`: these are all outputs of deployed infrastructure, so that one that is not among
    them may be null, which Terraform leaves out. Where that is not said, it is so if there are any.
    """
    complete = bool(outputs) if complete is None else complete
    patched = {}
    wrong: list[Problem] = []
    for path, source in sources.items():
        patched[path], problems = _attempt(
            source, path, outputs, tolerate=tolerate, complete=complete
        )
        wrong += problems
    if wrong:
        count = f"{len(wrong)} problems" if len(wrong) > 1 else "a problem"
        raise ProblemsError(
            "dags-patch-failed", f"the DAG files have {count} with their markers", tuple(wrong)
        )
    return patched


def masked(source: bytes, path: str) -> bytes:
    """The file with every literal masked that may hold a sensitive value: those marked `(sensitive
    ok)`.
    """
    found = scan(source, path)
    if found.text is None:
        return source
    parts = []
    done = 0
    for target in found.targets:
        if target.marker.sensitive_ok:
            parts += [source[done : target.start], f'"{MASK}"'.encode(found.text.encoding)]
            done = target.end
    return b"".join((*parts, source[done:])) if parts else source


def _attempt(
    source: bytes,
    path: str,
    outputs: Mapping[str, Output],
    *,
    tolerate: frozenset[str],
    complete: bool,
) -> tuple[Patched, list[Problem]]:
    found = scan(source, path)
    problems = list(found.problems)
    if found.text is None:
        return Patched(source), problems
    replacements = []
    notes: list[Problem] = []
    parts = []
    done = 0
    for target in found.targets:
        marker = target.marker
        if complete and target.wanted.optional and _left_out(marker.output, outputs):
            value, problem = None, None
            notes.append(_taken_for_null(marker, target.name))
        else:
            value, problem = _value(target, outputs)
        if problem is not None:
            (notes if problem.id in tolerate else problems).append(problem)
            continue
        if any("{{" in text for text in strings(value)):
            notes.append(_template(marker))
        new = _literal(target, value, found.text.newline)
        if new is not None:
            try:
                written = new.encode(found.text.encoding)
            except UnicodeError:
                problems.append(_not_encodable(marker, found.text.encoding))
                continue
            parts += [source[done : target.start], written]
            done = target.end
        shown = (target.literal, target.literal if new is None else new)
        output = outputs.get(marker.output)
        old, now = (MASK, MASK) if output is not None and output.sensitive else shown
        replacements.append(Replacement(path, marker.line, target.name, marker.output, old, now))
    body = b"".join((*parts, source[done:])) if parts else source
    problems.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))
    return Patched(body, tuple(replacements), tuple(notes)), problems


def _value(target: Target, outputs: Mapping[str, Output]) -> tuple[Any, Problem | None]:
    marker = target.marker
    output = outputs.get(marker.output)
    if output is None:
        return None, _unknown(marker, outputs)
    if output.sensitive and not marker.sensitive_ok:
        return None, Problem(
            "dag-output-sensitive",
            f"output {marker.output} is sensitive: in a DAG file anybody who reads the bucket could read it",
            marker.where,
            "Read it at run time from Secrets Manager; if it really may be in the file, add `(sensitive ok)` to the marker.",
        )
    if output.value is msgspec.UNSET:
        return None, Problem(
            "dag-output-withheld",
            f"the value of output {marker.output} is sensitive and is not kept in the ledger",
            marker.where,
            "Run the stage that makes the output in the same run, or read the value at run time from Secrets Manager.",
        )
    try:
        return target.wanted.fit(output.value), None
    except MismatchError as error:
        message = f"output {marker.output} does not fit the value of {target.name}: {error}"
        if error.null:
            hint = (
                "Give the output a value, or allow None by the annotation where it stands, such as `NAME: str | None`, "
                "`NAME: list[str | None]` or `NAME: dict[str, str | None]`."
            )
            return None, Problem("dag-output-null", message, marker.where, hint)
        hint = "The literal in the file says which type the output must have: change the one or the other."
        return None, Problem("dag-output-wrong-type", message, marker.where, hint)


def _left_out(name: str, outputs: Mapping[str, Output]) -> bool:
    """Whether an output may be one that is null: it is not there, and its name is not a misspelling
    of another one.
    """
    return name not in outputs and not difflib.get_close_matches(name, outputs, n=1)


def _taken_for_null(marker: Marker, name: str) -> Problem:
    return Problem(
        "dag-output-absent",
        f"there is no Terraform output {marker.output}: it is taken for null, and {name} becomes None",
        marker.where,
        "Terraform leaves outputs that are null out of `terraform output -json`. Check the name if it should have a value.",
    )


def _literal(target: Target, value: Any, newline: str) -> str | None:
    """The new literal; None where the one that stands there has that value already."""
    if render(value, width=0) == render(target.wanted.default, width=0):
        return None
    return render(value, width=max(_NARROWEST, _WIDTH - target.column), newline=newline)


def _unknown(marker: Marker, outputs: Mapping[str, Output]) -> Problem:
    nearest = difflib.get_close_matches(marker.output, outputs, n=1)
    if nearest:
        hint = f"Perhaps you meant {nearest[0]}."
    elif outputs:
        hint = f"The outputs are: {', '.join(sorted(outputs))}."
    else:
        hint = "There are no outputs: has the infrastructure been deployed, and does the stage need it (`needs`)?"
    return Problem(
        "dag-output-unknown", f"there is no Terraform output {marker.output}", marker.where, hint
    )


def _not_encodable(marker: Marker, encoding: str) -> Problem:
    return Problem(
        "dag-value-encoding",
        f"the value of output {marker.output} cannot be written in {encoding}, the encoding of the file",
        marker.where,
        "Write the file in UTF-8: leave out its coding line.",
    )


def _template(marker: Marker) -> Problem:
    return Problem(
        "dag-value-template",
        f"the value of output {marker.output} contains {{{{, which Airflow takes for a template in templated fields",
        marker.where,
        "Check that the operator that gets it does not render it, or that rendering is what you want.",
    )
