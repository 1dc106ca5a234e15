"""A token's claims, and an explanation of a verdict, as text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cipipe.ci import Subject
from cipipe.oidc.examine import Explanation
from cipipe.oidc.findings import Finding, render
from cipipe.report.text import plain
from cipipe.terminal import Style, visible

_VERDICTS = {
    "allowed": ("green", "the role's trust policy lets this token in"),
    "denied": ("red", "this token may not assume the role"),
    "unknown": ("yellow", "the trust policy depends on what only AWS knows"),
}

# The two forms of a subject: without ids, and with them.
_FORMS = {False: "by names", True: "with the ids of owner and repository"}


class IdentityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `cipipe oidc token` shows, which is never the token."""

    issuer: str
    subject: str

    # The subject's kind: a branch's, a tag's, an environment's, …
    kind: str
    audiences: tuple[str, ...]

    # ISO 8601, and seconds from now; None if the token never expires.
    expires_at: str | None
    expires_in: int | None

    # Condition key that AWS sees → its values.
    keys: Mapping[str, Sequence[str]]

    # The claims that AWS does not see.
    hidden: tuple[str, ...]
    claims: Mapping[str, Any]


def explanation(found: Explanation, style: Style = plain) -> str:
    """The verdict, and every finding below it."""
    colour, meaning = _VERDICTS[found.verdict]
    first = f"{style(found.verdict, colour)}: {meaning}\n"
    shown = render(map(_printable, found.findings), style)
    return f"{first}\n{shown}\n" if shown else first


def token(shown: IdentityReport, subject: Subject, style: Style = plain) -> str:
    """The claims in two lists: what AWS sees, by its condition keys, and what it does not see."""
    kind = shown.kind
    if subject.kind != "custom":
        kind += f", {_FORMS[subject.ids is not None]}"
    lines = [
        f"issuer    {visible(shown.issuer)}",
        f"subject   {style(visible(shown.subject), 'bold')}  ({kind})",
        f"audience  {visible(', '.join(shown.audiences)) or 'none'}",
        f"expires   {_expiry(shown, style)}",
    ]

    width = max((len(key) for key in (*shown.keys, *shown.hidden)), default=0)
    lines += ["", style("what AWS sees, as condition keys", "bold")]
    for key, values in shown.keys.items():
        lines.append(f"  {visible(key):<{width}}  {visible(', '.join(values))}")

    lines += ["", style("what AWS does not see", "bold")]
    for name in shown.hidden:
        lines.append(f"  {visible(name):<{width}}  {_value(shown.claims[name])}")
    return "\n".join(lines) + "\n"


def _expiry(shown: IdentityReport, style: Style) -> str:
    if shown.expires_at is None or shown.expires_in is None:
        return "never: AWS does not accept such a token"
    if shown.expires_in < 0:
        return f"{shown.expires_at}  {style(f'{-shown.expires_in} s ago', 'red')}"
    return f"{shown.expires_at}  in {shown.expires_in} s"


def _value(value: Any) -> str:
    return visible(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _printable(finding: Finding) -> Finding:
    """A finding without control characters: claims and policies may come from anybody."""
    return msgspec.structs.replace(
        finding,
        operator=visible(finding.operator) if finding.operator else None,
        key=visible(finding.key) if finding.key else None,
        expected=tuple(map(visible, finding.expected)),
        actual=None if finding.actual is None else tuple(map(visible, finding.actual)),
        message=visible(finding.message),
        fix=visible(finding.fix),
    )
