"""Patching one file, and what is wrong with it, in a line each."""

from typing import Any

import pytest

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Output
from cipipe.stages.dags.markers.patch import patch

PATH = "dags/x.py"


def outputs(**values: Any) -> dict[str, Output]:
    return {name: Output(value=value) for name, value in values.items()}


def patched(source: str | bytes, value: Any, *, encoding: str = "utf-8") -> bytes:
    body = source.encode(encoding) if isinstance(source, str) else source
    return patch(body, PATH, outputs(out=value)).body


def problems(source: str, **values: Any) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        patch(source.encode(), PATH, outputs(**values))
    assert caught.value.id == "dags-patch-failed"
    assert caught.value.exit_status == 2
    return list(caught.value.problems)


def problem(source: str, **values: Any) -> Problem:
    (only,) = problems(source, **values)
    assert only.hint
    return only
