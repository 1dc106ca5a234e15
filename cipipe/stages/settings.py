"""A stage as `cipipe.toml` configures it: its settings, and references to
values that are known later.

Whatever walks through settings of an unknown kind (fingerprints,
placeholders, resolving) uses `references`, `strings` and `replaced`, so
that a new kind needs no code there.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import msgspec

When = Literal["due", "nothing-due", "always"]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A setting whose value comes from elsewhere. Exactly one of the first three fields is set."""

    # The name of a Terraform output of a stage that this one needs.
    output: str | None = None
    # The name of a stage: its fingerprint's first 20 hex digits.
    fingerprint: str | None = None
    # The name of an environment variable of the job.
    env: str | None = None
    # Used where the output is null or the variable is not set.
    default: str | None = None


Setting = str | Reference
"""A literal or a reference. In a step's context every reference is resolved: use `literal`."""


def literal(setting: Setting) -> str:
    """The value of a setting that has been resolved."""
    if isinstance(setting, Reference):
        message = f"setting {setting} was used before it was resolved"
        raise TypeError(message)
    return setting


def shown(setting: Setting) -> str:
    """A setting as a plan shows it. An unknown value is shown as its name:
    `{ecr_repository_url}`.
    """
    if isinstance(setting, Reference):
        return f"{{{setting.output or setting.fingerprint or setting.env}}}"
    return setting


# A string or reference in settings, with its key path.
Leaf = tuple[str, str | Reference]


class KindSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    dict=True,
):
    """Base of each kind's settings: a stage's table without the keys that
    every kind has.

    Defaults are not part of the fingerprint, so a setting that a later
    version adds makes no stage due.
    """

    # Settings that change how a stage is deployed, but nothing of what is:
    # they are not part of the fingerprint.
    NOT_COUNTED: ClassVar[frozenset[str]] = frozenset()

    # Settings whose references get the value of an output as it is: of any
    # type, and sensitive ones too. Everywhere else it has to be text.
    TYPED: ClassVar[frozenset[str]] = frozenset()

    def counted(self) -> dict[str, Any]:
        """The settings that are part of the fingerprint."""
        every: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in every.items() if name not in self.NOT_COUNTED}

    @functools.cached_property
    def leaves(self) -> Sequence[Leaf]:
        """Every string and reference in the settings, with its key path.
        Found once: a dozen checks look at them.
        """
        found: list[Leaf] = []
        _collect(self, "", found)
        return found


S = TypeVar("S", bound=KindSettings)
"""The settings of one kind."""


class Stage(msgspec.Struct, Generic[S], frozen=True):
    """One entry under `[stages]`."""

    name: str
    kind: str
    settings: S
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"
    # The environments that have the stage; empty: all of them.
    environments: tuple[str, ...] = ()
    # In steps only: the environment that the stage's content comes from, if
    # the one it is deployed to has `after`.
    after: str | None = None
    # In steps only: merge requests record what they show, because the
    # environment compares with it.
    reviewed: bool = False
    # In steps only: people approve its changes in that environment.
    approval: bool = False


AnyStage: TypeAlias = Stage[Any]
"""A stage whose kind is not known here."""


def references(value: Any, path: str = "") -> Iterator[tuple[str, Reference]]:
    """Every reference in a kind's settings, with its key path."""
    return ((key, leaf) for key, leaf in _leaves(value, path) if isinstance(leaf, Reference))


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every literal string in a kind's settings, with its key path."""
    return ((key, leaf) for key, leaf in _leaves(value, path) if isinstance(leaf, str))


def replaced(value: Any, change: Callable[[Reference | str], Any]) -> Any:
    """The same settings with every reference and every string put through `change`."""
    if isinstance(value, (Reference, str)):
        return change(value)
    if isinstance(value, dict) and value:
        return {key: replaced(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and value:
        return tuple(replaced(item, change) for item in value)
    if not isinstance(value, msgspec.Struct):
        return value

    # Most fields have their defaults, and a configuration may have
    # thousands of stages: only what the change makes different is built
    # anew.
    changes = {}
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if item is not None:
            changed = replaced(item, change)
            if changed is not item:
                changes[name] = changed
    return msgspec.structs.replace(value, **changes) if changes else value


def resolved(
    settings: Any, text: Callable[[Reference | str], Any], typed: Callable[[Reference | str], Any]
) -> Any:
    """The same settings with every reference and every string put through
    `text`, those in the kind's `TYPED` settings through `typed`.
    """
    names: frozenset[str] = getattr(type(settings), "TYPED", frozenset())
    given = {name: replaced(getattr(settings, name), typed) for name in names}
    if not given:
        return replaced(settings, text)
    without = msgspec.structs.replace(settings, **{name: type(given[name])() for name in names})
    return msgspec.structs.replace(replaced(without, text), **given)


def _leaves(value: Any, path: str) -> Sequence[Leaf]:
    """Every string and reference in a value, with its key path."""
    if isinstance(value, KindSettings) and not path:
        return value.leaves
    found: list[Leaf] = []
    _collect(value, path, found)
    return found


def _collect(value: Any, path: str, found: list[Leaf]) -> None:
    if isinstance(value, (str, Reference)):
        found.append((path, value))
        return
    if isinstance(value, msgspec.Struct):
        items: Iterable[tuple[Any, Any]] = (
            (name, getattr(value, name)) for name in value.__struct_fields__
        )
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        if item is not None:
            _collect(item, f"{path}.{key}" if path else str(key), found)
