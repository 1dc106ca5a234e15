"""The input of the commands of `cipipe oidc`: a policy, a token, claims.

A token is a secret from the moment it is read.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cipipe import bounded
from cipipe.cli.console import Console
from cipipe.errors import CipipeError, IdentityError, UsageError
from cipipe.oidc import claims as jwt
from cipipe.oidc import policy
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.no_token import missing_token

# AWS accepts tokens of up to 20,000 characters, and trust policies of a few
# thousand.
_LARGEST = 64 * bounded.KIB


def text_of(file: str, option: str) -> str:
    """The text of a file, `-` for standard input. Raises UsageError `usage`."""
    name = named(file)
    if file == "-" and (sys.stdin is None or sys.stdin.closed):
        raise UsageError(
            "usage",
            f"{name} cannot be read: it is closed",
            hint="Name a file instead.",
            where=option,
        )
    try:
        if file == "-":
            data = bounded.read_from(sys.stdin.buffer, largest=_LARGEST)
        else:
            data = bounded.read(Path(file), largest=_LARGEST)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            "usage", f"{name} cannot be read: {error.strerror}", where=option
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("usage", f"{name} is not UTF-8", where=option) from error
    except ValueError as error:
        raise UsageError("usage", f"{name} cannot be read: {error}", where=option) from error


def named(file: str) -> str:
    """A file as messages name it."""
    return "standard input" if file == "-" else file


def policy_of(file: str) -> dict[str, Any]:
    """A policy from a file. Raises UsageError, whose `where` starts with the file's name."""
    try:
        document = policy.parse(text_of(file, "--policy"))
        policy.load(document)
    except CipipeError as error:
        if error.id == "oidc-policy-malformed":
            error.where = f"{named(file)}: {error.where}" if error.where else named(file)
        raise
    return document


def claims_of(file: str) -> TokenClaims:
    """Claims from a file with a JSON object. Raises UsageError."""
    try:
        found = bounded.loads(text_of(file, "--claims"))
        # Fails for half of a surrogate pair, which could not be printed
        # later.
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _no_claims(file, f"they are not JSON: {error}") from None
    except ValueError as error:
        raise _no_claims(file, str(error)) from None
    if not isinstance(found, dict):
        raise _no_claims(file, "they are not a JSON object")
    # The document that `cipipe oidc token --format json` prints.
    if found.get("schema") == 1 and isinstance(found.get("claims"), dict):
        found = found["claims"]
    return TokenClaims({}, found)


def given_token(console: Console, file: str | None, variable: str | None) -> str | None:
    """The token of `--token-file` or `--token-env`; None without either option."""
    # Somebody may have passed the token itself instead of its file or
    # variable, and then an error must not show it.
    for word in filter(None, (file, variable)):
        if word.startswith("ey") and word.count(".") == 2:
            console.redactor.register(word)
    if variable is not None:
        token = console.env.get(variable, "").strip()
    elif file is not None:
        token = text_of(file, "--token-file").strip()
    else:
        return None
    if not token:
        raise no_token(console, f"{variable or named(file or '')} is empty or does not exist")
    return token


def decoded(console: Console, token: str) -> TokenClaims:
    """The claims of a token, which is masked from here on, as are its
    parts.

    Raises IdentityError.
    """
    console.redactor.register(token)
    for part in token.split("."):
        console.redactor.register(part)
    return jwt.decode(token)


def no_token(console: Console, detail: str, hint: str | None = None) -> IdentityError:
    """The error for a job without a token."""
    return missing_token(
        console.provider.context(console.env),
        f"there is no ID token: {detail}",
        hint=hint or "Give the job an ID token, and name its variable or its file.",
    )


def _no_claims(file: str, detail: str) -> UsageError:
    return UsageError(
        "oidc-claims-unreadable",
        f"the claims of {named(file)} cannot be used: {detail}",
        hint="`cipipe oidc token --format json` prints them; a token goes into --token-file.",
        where="--claims",
    )
