"""Trust policies that let in more than was meant, whether or not they let this token in.

Only statements that allow, and whose principal is the token's provider, are looked at.
"""

import re
from collections.abc import Iterator, Sequence

from cipipe import ci
from cipipe.oidc import conditions
from cipipe.oidc.findings import Finding, line
from cipipe.oidc.reach import reach
from cipipe.oidc.request import Request, visible
from cipipe.oidc.trust_policy import ConditionResult, StatementResult
from cipipe.oidc.unmerged import guarded, indistinct

_ALWAYS = {"sub", "aud"}
_CLOSED = re.compile(r"[a-z_]+:[^:]+:")
_ANY_IDS = re.compile(r"repo:[^:*?/@]+@[0-9*?]+/[^:*?/@]+@[0-9*?]+:")
_NAMES = ("repository", "project_path")
_WILD = re.compile(r"\$\{[*?$]\}|[*?]")
_VARIABLE = re.compile(r"\$\{(?![*?$]\})")
_EXACT = {"stringequals", "stringequalsignorecase", "stringlike", "numericequals"}
_PROBE = "any/name.at-all"
_ENDS = {
    "branch": (f"ref:refs/heads/{_PROBE}", f"ref_type:branch:ref:{_PROBE}"),
    "tag": (f"ref:refs/tags/{_PROBE}", f"ref_type:tag:ref:{_PROBE}"),
    "environment": (f"environment:{_PROBE}",),
    "pull request": ("pull_request",),
}
"""How subjects end, behind the project. A pattern that matches an end of no real job matches every
one of its kind.
"""


def lint(
    statement: StatementResult, request: Request, every: Sequence[StatementResult] = ()
) -> Iterator[Finding]:
    """The warnings on one statement, `every` other statement of the policy considered."""
    if statement.effect != "Allow" or not statement.principal:
        return
    subjects = _restricting(statement, f"{request.issuer}:sub")
    if not subjects and (who := reach(statement, request.issuer)):
        yield _missing_subject(statement, request, who)
    pinned = _pinned(statement, request)
    wide = [
        finding
        for condition in subjects
        for finding in _wide(statement, condition, request, pinned=pinned)
    ]
    wide += [finding for condition in subjects for finding in _bare(statement, condition)]
    yield from wide
    if not wide:
        yield from indistinct(statement, subjects, request, every)
    if subjects and not pinned:
        yield from _mutable(statement, subjects[0], request)
    for condition in statement.conditions:
        yield from _absent(statement, condition, request)


def _restricting(statement: StatementResult, key: str) -> list[ConditionResult]:
    """The conditions that hold only for some values of a key, all of which are written down."""
    return [
        condition
        for condition in statement.conditions
        if condition.key.lower() == key.lower()
        and not conditions.negated(condition.operator)
        and conditions.base(condition.operator).lower() != "null"
    ]


def _pinned(statement: StatementResult, request: Request) -> bool:
    return any(_exactly(statement, f"{request.issuer}:{claim}") for claim in _project_claims())


def _exactly(statement: StatementResult, key: str) -> list[ConditionResult]:
    """The conditions that want a key to be there, and to have one of some values without wildcards
    or variables.
    """
    return [
        condition
        for condition in _restricting(statement, key)
        if not conditions.tolerant(condition.operator)
        and (base := conditions.base(condition.operator).lower()) in _EXACT
        and not any(_VARIABLE.search(value) for value in condition.expected)
        and not (
            base == "stringlike"
            and any(_first_wild(value) is not None for value in condition.expected)
        )
    ]


def _first_wild(value: str) -> int | None:
    return next(
        (match.start() for match in _WILD.finditer(value) if not match[0].startswith("$")), None
    )


def _project_claims() -> frozenset[str]:
    return frozenset(provider.PINS.project for provider in ci.PROVIDERS.values() if provider.PINS)


def _missing_subject(statement: StatementResult, request: Request, who: str) -> Finding:
    key = f"{request.issuer}:sub"
    return Finding(
        "oidc-missing-subject",
        "warning",
        statement.index,
        None,
        key,
        (),
        None,
        f"the statement does not restrict the subject: {who} may assume this role",
        line("StringEquals", key, _subject(request)),
    )


def _wide(
    statement: StatementResult, condition: ConditionResult, request: Request, *, pinned: bool
) -> Iterator[Finding]:
    if "like" not in condition.operator.lower():
        return
    for value in condition.expected:
        wild = _first_wild(value)
        if wild is None:
            continue
        closed = _CLOSED.match(value[:wild])
        named = pinned or any(_exactly(statement, f"{request.issuer}:{name}") for name in _NAMES)
        if closed is None and named:
            closed = _ANY_IDS.match(value)
            if closed is None:
                continue
        if closed is None:
            what = f"{value} admits other projects than one: `*` crosses every `/` and `:`"
        else:
            what = _too_much(value[closed.end() :], protected=guarded(statement, request.issuer))
            if not what:
                continue
            what = f"{value} admits {what} of the project"
        yield Finding(
            "oidc-subject-too-wide",
            "warning",
            statement.index,
            condition.operator,
            condition.key,
            condition.expected,
            condition.actual,
            what,
            line("StringEquals", condition.key, _subject(request)),
        )


def _bare(statement: StatementResult, condition: ConditionResult) -> Iterator[Finding]:
    """The warning on a subject that was customised to name the project only, where that is the
    token's.
    """
    for value in condition.expected:
        if ci.subject(value).kind == "project" and value in (condition.actual or ()):
            yield Finding(
                "oidc-subject-too-wide",
                "warning",
                statement.index,
                condition.operator,
                condition.key,
                condition.expected,
                condition.actual,
                f"{value} is the subject of every branch, tag, environment and merge or pull request of the project",
                "have the project's subjects customised to name the ref as well, and trust those",
            )


def _too_much(end: str, *, protected: bool) -> str:
    """What a pattern for the end of a subject admits that is too much; empty where that is one kind
    of ref.
    """
    kinds = [kind for kind, ends in _ENDS.items() if any(conditions.like(one, end) for one in ends)]
    if end.startswith(("ref_type:*", "ref_type:?")) or len(kinds) == len(_ENDS):
        return "every branch, tag, environment and merge or pull request"
    if len(kinds) > 1 or kinds == ["environment"]:
        return f"every {' and '.join(kinds)}"
    if not protected and conditions.like(_ENDS["branch"][1], end):
        return (
            "every branch, which is that of a merge request's job as well: code that is not merged,"
        )
    return ""


def _mutable(
    statement: StatementResult, condition: ConditionResult, request: Request
) -> Iterator[Finding]:
    """Names can be given up and taken by somebody else; ids cannot. Where IAM sees no id there is
    nothing to do.
    """
    keys = [
        key
        for claim in sorted(_project_claims())
        if (key := f"{request.issuer}:{claim}").lower() in request.context
    ]
    if not keys or all(_has_ids(value) for value in condition.expected):
        return
    yield Finding(
        "oidc-mutable-name",
        "warning",
        statement.index,
        condition.operator,
        condition.key,
        condition.expected,
        condition.actual,
        "the role trusts a name; whoever gets the name after a rename or deletion gets the role as well",
        line("StringEquals", keys[0], request.context[keys[0].lower()]) + " beside it",
    )


def _has_ids(value: str) -> bool:
    ids = ci.subject(value).ids
    return "_id:" in value or (ids is not None and "".join(ids).isdigit())


def _absent(
    statement: StatementResult, condition: ConditionResult, request: Request
) -> Iterator[Finding]:
    """Conditions that hold where the key is absent, so that they keep out nobody who leaves it
    away.
    """
    prefix, _, claim = condition.key.rpartition(":")
    if not conditions.tolerant(condition.operator) or _guarded(statement, condition.key):
        return
    if prefix.lower() == request.issuer.lower() and claim.lower() in _ALWAYS:
        return
    if not prefix or request.undecided(condition.key):
        return
    qualifier, base = (
        condition.operator.rpartition(":")[0].lower(),
        conditions.base(condition.operator),
    )
    seen = claim.lower() in visible(request.issuer) and prefix.lower() == request.issuer.lower()
    never = "" if seen else f", and AWS never sees {condition.key}"
    if qualifier == "forallvalues":
        name, message = (
            "oidc-forallvalues-allows-absent",
            f"ForAllValues holds where the key is absent{never}",
        )
        fix = line(base, condition.key, condition.expected)
    elif conditions.negated(condition.operator):
        name, message = (
            "oidc-negated-allows-absent",
            f"{condition.operator} holds where the key is absent{never}",
        )
        fix = line("Null", condition.key, ("false",)) + " beside it"
    elif not seen:
        name, message = (
            "oidc-claim-not-visible",
            f"{condition.operator} always holds: AWS never sees {condition.key}",
        )
        fix = line("StringEquals", f"{request.issuer}:sub", _subject(request))
    else:
        return
    yield Finding(
        name,
        "warning",
        statement.index,
        condition.operator,
        condition.key,
        condition.expected,
        condition.actual,
        message,
        fix,
    )


def _guarded(statement: StatementResult, key: str) -> bool:
    """Whether another condition of the statement wants the key to be there."""
    return any(
        other.key.lower() == key.lower()
        and (
            (
                other.operator.lower() == "null"
                and [value.lower() for value in other.expected] == ["false"]
            )
            or (other.operator.lower() != "null" and not conditions.tolerant(other.operator))
        )
        for other in statement.conditions
    )


def _subject(request: Request) -> tuple[str, ...]:
    return request.context.get(f"{request.issuer}:sub".lower(), ("…",))
