"""Settings with their references resolved: as text, or with their types."""

from typing import Any, ClassVar

from cipipe.stages.settings import KindSettings, Reference, Setting, resolved
from cipipe.stages.terraform.settings import TerraformSettings


class Plain(KindSettings, frozen=True):
    name: Setting


class Mixed(Plain, frozen=True):
    TYPED: ClassVar[frozenset[str]] = frozenset({"variables"})

    variables: dict[str, Setting] = {}


def text(found: Reference | str) -> Any:
    return found if isinstance(found, str) else f"text of {found.output}"


def typed(found: Reference | str) -> Any:
    return found if isinstance(found, str) else [found.output]


def test_only_typed_settings_keep_types() -> None:
    settings = Mixed(name=Reference(output="a"), variables={"x": Reference(output="b"), "y": "z"})
    done = resolved(settings, text, typed)
    assert done.name == "text of a"
    assert done.variables == {"x": ["b"], "y": "z"}
    assert settings.variables["x"] == Reference(output="b")


def test_other_kinds_have_none() -> None:
    assert resolved(Plain(name=Reference(output="a")), text, typed).name == "text of a"


def test_terraform_variables_are_typed() -> None:
    settings = TerraformSettings(root="x", variables={"v": Reference(output="b")})
    done = resolved(settings, text, typed)
    assert (done.root, done.variables) == ("x", {"v": ["b"]})
