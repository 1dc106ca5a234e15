"""Warnings about trust policies that accept more than was meant, whether or
not they accept this token.

Only statements that allow, and that trust the token's provider, are looked
at.
"""

import re
from collections.abc import Iterator, Sequence

from cipipe import ci
from cipipe.oidc import conditions
from cipipe.oidc.findings import Cause, Finding, about_condition, line
from cipipe.oidc.reach import reach
from cipipe.oidc.request import Request, visible
from cipipe.oidc.trust_policy import ConditionResult, StatementResult
from cipipe.oidc.unmerged import guarded, indistinct

# Claims that every token has.
_ALWAYS = {"sub", "aud"}

# A pattern that starts like this is about one project: what follows cannot
# change that.
_ONE_PROJECT = re.compile(r"[a-z_]+:[^:]+:")

# So is this one where another condition names the project: whatever the
# wildcards for ids match, that condition has to hold as well.
_ANY_IDS = re.compile(r"repo:[^:*?/@]+@[0-9*?]+/[^:*?/@]+@[0-9*?]+:")
_NAMES = ("repository", "project_path")

# A wildcard, or an escaped one, which is a literal character.
_WILD = re.compile(r"\$\{[*?$]\}|[*?]")
_VARIABLE = re.compile(r"\$\{(?![*?$]\})")
_EXACT = {"stringequals", "stringequalsignorecase", "stringlike", "numericequals"}

# How subjects end, after the project. A pattern that matches the end of a
# job that does not exist matches every job of that kind.
_PROBE = "any/name.at-all"
_ENDS = {
    "branch": (f"ref:refs/heads/{_PROBE}", f"ref_type:branch:ref:{_PROBE}"),
    "tag": (f"ref:refs/tags/{_PROBE}", f"ref_type:tag:ref:{_PROBE}"),
    "environment": (f"environment:{_PROBE}",),
    "pull request": ("pull_request",),
}


def lint(
    statement: StatementResult, request: Request, every: Sequence[StatementResult] = ()
) -> Iterator[Finding]:
    """The warnings about one statement. `every` are all statements of the policy."""
    if statement.effect != "Allow" or not statement.principal:
        return

    subjects = _restricting(statement, f"{request.issuer}:sub")
    if not subjects and (who := reach(statement, request.issuer)):
        yield _missing_subject(statement, request, who)

    pinned = _pinned(statement, request)
    wide: list[Finding] = []
    for condition in subjects:
        wide += _wide(statement, condition, request, pinned=pinned)
    for condition in subjects:
        wide += _bare(statement, condition)
    yield from wide

    # A subject that is too wide has been reported; that it includes merge
    # requests goes without saying.
    if not wide:
        yield from indistinct(statement, subjects, request, every=every)
    if subjects and not pinned:
        yield from _mutable(statement, subjects[0], request)
    for condition in statement.conditions:
        yield from _absent(statement, condition, request)


def _warning(statement: StatementResult, condition: ConditionResult, cause: Cause) -> Finding:
    return about_condition(statement, condition, cause, severity="warning")


def _restricting(statement: StatementResult, key: str) -> list[ConditionResult]:
    """The conditions that list the values of a key for which they hold."""
    return [
        condition
        for condition in statement.conditions
        if condition.key.lower() == key.lower()
        and not conditions.negated(condition.operator)
        and conditions.base(condition.operator).lower() != "null"
    ]


def _pinned(statement: StatementResult, request: Request) -> bool:
    """Whether the statement requires a project's id, which nobody else can get."""
    return any(_exactly(statement, f"{request.issuer}:{claim}") for claim in _project_claims())


def _exactly(statement: StatementResult, key: str) -> list[ConditionResult]:
    """The conditions that require a key to have one of some literal values."""
    return [condition for condition in _restricting(statement, key) if _is_exact(condition)]


def _is_exact(condition: ConditionResult) -> bool:
    base = conditions.base(condition.operator).lower()
    if conditions.tolerant(condition.operator) or base not in _EXACT:
        return False
    if any(_VARIABLE.search(value) for value in condition.expected):
        return False
    wild = any(_first_wildcard(value) is not None for value in condition.expected)
    return not (base == "stringlike" and wild)


def _first_wildcard(value: str) -> int | None:
    found = (match.start() for match in _WILD.finditer(value) if not match[0].startswith("$"))
    return next(found, None)


def _project_claims() -> frozenset[str]:
    return frozenset(provider.PINS.project for provider in ci.PROVIDERS.values() if provider.PINS)


def _missing_subject(statement: StatementResult, request: Request, who: str) -> Finding:
    key = f"{request.issuer}:sub"
    return Finding(
        id="oidc-missing-subject",
        severity="warning",
        statement=statement.index,
        key=key,
        message=f"the statement does not restrict the subject: {who} may assume this role",
        fix=line("StringEquals", key, _subject(request)),
    )


def _wide(
    statement: StatementResult, condition: ConditionResult, request: Request, *, pinned: bool
) -> Iterator[Finding]:
    """The warnings about patterns for subjects that match more than one kind of ref."""
    if "like" not in condition.operator.lower():
        return
    named = pinned or any(_exactly(statement, f"{request.issuer}:{name}") for name in _NAMES)
    protected = guarded(statement, request.issuer)
    for value in condition.expected:
        if message := _too_wide(value, named=named, protected=protected):
            fix = line("StringEquals", condition.key, _subject(request))
            yield _warning(statement, condition, Cause("oidc-subject-too-wide", message, fix))


def _too_wide(value: str, *, named: bool, protected: bool) -> str:
    """What is too wide about a pattern for subjects; empty if nothing is.

    `named`: other conditions allow one project only. `protected`: they
    refuse merge requests.
    """
    wild = _first_wildcard(value)
    if wild is None:
        return ""

    project = _ONE_PROJECT.match(value[:wild])
    if project is None and named:
        project = _ANY_IDS.match(value)
        if project is None:
            return ""
    if project is None:
        return f"{value} matches other projects as well: `*` also matches `/` and `:`"

    what = _too_much(value[project.end() :], protected=protected)
    return f"{value} matches {what}" if what else ""


def _too_much(end: str, *, protected: bool) -> str:
    """What a pattern for the end of a subject matches; empty if it is one kind of ref."""
    kinds = [kind for kind, ends in _ENDS.items() if any(conditions.like(one, end) for one in ends)]
    if end.startswith(("ref_type:*", "ref_type:?")) or len(kinds) == len(_ENDS):
        return "every branch, tag, environment and merge or pull request of the project"

    # Environments have rules of their own, so one pattern for all of them
    # is too much.
    if len(kinds) > 1 or kinds == ["environment"]:
        return f"every {' and '.join(kinds)} of the project"

    if not protected and conditions.like(_ENDS["branch"][1], end):
        return (
            "every branch of the project, and so every merge request of a fork: code that is not "
            "merged"
        )
    return ""


def _bare(statement: StatementResult, condition: ConditionResult) -> Iterator[Finding]:
    """The warning about a token's subject that was customised to name only the project."""
    for value in condition.expected:
        if ci.subject(value).kind == "project" and value in (condition.actual or ()):
            message = (
                f"{value} is the subject of every branch, tag, environment and merge or pull "
                "request of the project"
            )
            fix = "customise the project's subjects so that they include the ref, and trust those"
            yield _warning(statement, condition, Cause("oidc-subject-too-wide", message, fix))


def _mutable(
    statement: StatementResult, condition: ConditionResult, request: Request
) -> Iterator[Finding]:
    """The warning about a name without an id, where AWS sees the id."""
    keys = [
        key
        for claim in sorted(_project_claims())
        if (key := f"{request.issuer}:{claim}").lower() in request.context
    ]
    if not keys or all(_has_ids(value) for value in condition.expected):
        return
    message = (
        "the role trusts a name; whoever gets the name after a rename or deletion gets the role "
        "as well"
    )
    fix = f"add {line('StringEquals', keys[0], request.context[keys[0].lower()])}"
    yield _warning(statement, condition, Cause("oidc-mutable-name", message, fix))


def _has_ids(value: str) -> bool:
    ids = ci.subject(value).ids
    return "_id:" in value or (ids is not None and "".join(ids).isdigit())


def _absent(
    statement: StatementResult, condition: ConditionResult, request: Request
) -> Iterator[Finding]:
    """The warning about a condition that also holds if its key is absent.

    It does not keep out a token without the claim.
    """
    prefix, _, claim = condition.key.rpartition(":")
    of_issuer = prefix.lower() == request.issuer.lower()
    if not conditions.tolerant(condition.operator) or _required(statement, condition.key):
        return
    if of_issuer and claim.lower() in _ALWAYS:
        return
    if not prefix or request.undecided(condition.key):
        return

    seen = of_issuer and claim.lower() in visible(request.issuer)
    cause = _holds_if_absent(condition, request, seen=seen)
    if cause is not None:
        yield _warning(statement, condition, cause)


def _holds_if_absent(condition: ConditionResult, request: Request, *, seen: bool) -> Cause | None:
    """What is wrong with a condition that holds if its key is absent. `seen`: AWS sees the key."""
    key = condition.key
    never = "" if seen else f", and AWS never sees {key}"
    qualifier = condition.operator.rpartition(":")[0].lower()

    if qualifier == "forallvalues":
        message = f"ForAllValues also holds if the key is absent{never}"
        fix = line(conditions.base(condition.operator), key, condition.expected)
        return Cause("oidc-forallvalues-allows-absent", message, fix)

    if conditions.negated(condition.operator):
        message = f"{condition.operator} also holds if the key is absent{never}"
        fix = f"add {line('Null', key, ('false',))}"
        return Cause("oidc-negated-allows-absent", message, fix)

    # What is left is `…IfExists`, which is useful for a claim that AWS
    # sees.
    if not seen:
        message = f"{condition.operator} always holds: AWS never sees {key}"
        fix = line("StringEquals", f"{request.issuer}:sub", _subject(request))
        return Cause("oidc-claim-not-visible", message, fix)
    return None


def _required(statement: StatementResult, key: str) -> bool:
    """Whether another condition of the statement requires the key to be present."""
    for other in statement.conditions:
        if other.key.lower() != key.lower():
            continue
        if other.operator.lower() == "null":
            if [value.lower() for value in other.expected] == ["false"]:
                return True
        elif not conditions.tolerant(other.operator):
            return True
    return False


def _subject(request: Request) -> tuple[str, ...]:
    return request.context.get(f"{request.issuer}:sub".lower(), ("…",))
