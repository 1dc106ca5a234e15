"""What can be wrong with the output that a marker names, as problems with a hint."""

import difflib
from collections.abc import Mapping

from cipipe.errors import Problem
from cipipe.model import Output
from cipipe.stages.dags.markers.scan import Marker
from cipipe.stages.dags.markers.values import MismatchError

# The id of the one problem that is always a warning: the value is null, and
# fits.
ABSENT = "dag-output-absent"


def unknown(marker: Marker, outputs: Mapping[str, Output]) -> Problem:
    nearest = difflib.get_close_matches(marker.output, outputs, n=1)
    if nearest:
        hint = f"Perhaps you meant {nearest[0]}."
    elif outputs:
        hint = f"The outputs are: {', '.join(sorted(outputs))}."
    else:
        hint = (
            "There are no outputs: has the infrastructure been deployed,"
            " and does the stage need it (`needs`)?"
        )
    return Problem(
        "dag-output-unknown",
        f"there is no Terraform output {marker.output}",
        marker.where,
        hint=hint,
    )


def absent(marker: Marker, name: str) -> Problem:
    return Problem(
        ABSENT,
        f"there is no Terraform output {marker.output}: it is treated as null,"
        f" and {name} becomes None",
        marker.where,
        hint="Terraform leaves outputs that are null out of `terraform output -json`."
        " Check the name if it should have a value.",
    )


def sensitive(marker: Marker) -> Problem:
    return Problem(
        "dag-output-sensitive",
        f"output {marker.output} is sensitive:"
        " in a DAG file, anybody who can read the bucket could read it",
        marker.where,
        hint="Read it at run time from Secrets Manager;"
        " if it really may be in the file, add `(sensitive ok)` to the marker.",
    )


def withheld(marker: Marker) -> Problem:
    return Problem(
        "dag-output-withheld",
        f"the value of output {marker.output} is sensitive and is not kept in the ledger",
        marker.where,
        hint="Run the stage that makes the output in the same run,"
        " or read the value at run time from Secrets Manager.",
    )


def mismatch(marker: Marker, name: str, error: MismatchError) -> Problem:
    message = f"output {marker.output} does not fit the value of {name}: {error}"
    if error.null:
        hint = (
            "Give the output a value, or allow None in the annotation, such as"
            " `NAME: str | None`, `NAME: list[str | None]` or `NAME: dict[str, str | None]`."
        )
        return Problem("dag-output-null", message, marker.where, hint=hint)
    hint = "The literal in the file says which type the output must have: change one of the two."
    return Problem("dag-output-wrong-type", message, marker.where, hint=hint)


def not_encodable(marker: Marker, encoding: str) -> Problem:
    return Problem(
        "dag-value-encoding",
        f"the value of output {marker.output} cannot be written in {encoding},"
        " the encoding of the file",
        marker.where,
        hint="Write the file in UTF-8: leave out its coding line.",
    )


def template(marker: Marker) -> Problem:
    return Problem(
        "dag-value-template",
        f"the value of output {marker.output} contains {{{{,"
        " which starts a template in fields that Airflow renders",
        marker.where,
        hint="Check that the operator that gets it does not render it,"
        " or that rendering is intended.",
    )
