"""A token's claims and an explanation for people. `style` colours a word."""

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
_FORMS = {False: "by names", True: "with the ids of owner and repository"}


class IdentityReport(msgspec.Struct, frozen=True):
    """What `cipipe oidc token` shows; never the token. `keys` are what AWS sees, `hidden` the
    claims that it does not.
    """

    issuer: str
    subject: str
    kind: str
    audiences: tuple[str, ...]
    expires_at: str | None
    expires_in: int | None
    keys: Mapping[str, Sequence[str]]
    hidden: tuple[str, ...]
    claims: Mapping[str, Any]


def explanation(found: Explanation, style: Style = plain) -> str:
    """The verdict in a line, and every finding below it."""
    colour, meaning = _VERDICTS[found.verdict]
    first = f"{style(found.verdict, colour)}: {meaning}\n"
    shown = render(map(_printable, found.findings), style)
    return f"{first}\n{shown}\n" if shown else first


def token(shown: IdentityReport, subject: Subject, style: Style = plain) -> str:
    """The claims as two lists: what AWS sees, under the names of its condition keys, and what it
    does not.
    """
    width = max((len(key) for key in (*shown.keys, *shown.hidden)), default=0)
    kind = (
        shown.kind
        if subject.kind == "custom"
        else f"{shown.kind}, {_FORMS[subject.ids is not None]}"
    )
    lines = [
        f"issuer    {visible(shown.issuer)}",
        f"subject   {style(visible(shown.subject), 'bold')}  ({kind})",
        f"audience  {visible(', '.join(shown.audiences)) or 'none'}",
        f"expires   {_expiry(shown, style)}",
        "",
        style("what AWS sees, as condition keys", "bold"),
        *(
            f"  {visible(key):<{width}}  {visible(', '.join(values))}"
            for key, values in shown.keys.items()
        ),
        "",
        style("what AWS does not see", "bold"),
        *(f"  {visible(name):<{width}}  {_value(shown.claims[name])}" for name in shown.hidden),
    ]
    return "\n".join(lines) + "\n"


def _expiry(shown: IdentityReport, style: Style) -> str:
    if shown.expires_at is None or shown.expires_in is None:
        return "never: AWS takes no such token"
    if shown.expires_in < 0:
        return f"{shown.expires_at}  {style(f'{-shown.expires_in} s ago', 'red')}"
    return f"{shown.expires_at}  in {shown.expires_in} s"


def _value(value: Any) -> str:
    return visible(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _printable(finding: Finding) -> Finding:
    """A finding whose texts, which may come from anybody, stay on their lines."""
    return msgspec.structs.replace(
        finding,
        operator=visible(finding.operator) if finding.operator else None,
        key=visible(finding.key) if finding.key else None,
        expected=tuple(map(visible, finding.expected)),
        actual=None if finding.actual is None else tuple(map(visible, finding.actual)),
        message=visible(finding.message),
        fix=visible(finding.fix),
    )
