"""What Docker says when something fails, as errors: the daemon, its disk, the registry, or the
command itself.

Docker has no codes for these, so they are told apart by its words.
"""

import re

from cipipe.errors import StageError

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

# The daemon went away in the middle: of its command, and of the SDK.
_LOST = re.compile(
    r"cannot connect to the docker daemon"
    r"|error during connect"
    r"|error reading from server"
    r"|transport is closing"
    r"|failed to receive status"
    r"|^docker build of \S+ failed: (?:unexpected )?EOF$",
    re.IGNORECASE | re.MULTILINE,
)

# Answers of registries, by their codes and statuses:
# https://distribution.github.io/distribution/spec/api/#errors-2
_REFUSED = re.compile(
    r"\bdenied\b|unauthorized|no basic auth credentials|authentication required"
    r"|\b40[13]\b|forbidden|not authorized|name unknown|does not exist"
    r"|token (?:has|is) expired|expiredtoken"
    r"|tag invalid|immutable|already exists",
    re.IGNORECASE,
)


def failure(what: str, reason: str, *, id: str) -> StageError:
    """The error for a reason that Docker gave. `id` is that of any other reason than those here."""
    message = f"{what} failed: {reason}"
    special = of_daemon(message)
    if special is not None:
        return special
    return _push(message, reason) if id == "docker-push-failed" else StageError(id, message)


def of_daemon(message: str) -> StageError | None:
    """The error of a message that is about the daemon itself; None for others."""
    if is_no_space(message):
        return no_space(message)
    return lost(message) if _LOST.search(message) else None


def is_no_space(message: str) -> bool:
    """Whether a message is about a full disk."""
    return bool(_NO_SPACE.search(message))


def no_space(message: str) -> StageError:
    """The error of a full disk."""
    return StageError(
        "docker-no-space",
        message,
        hint="Free space on the disk with Docker's data, for example with `docker system prune "
        "--all`, or give it more; then run again.",
    )


def lost(message: str) -> StageError:
    """The error of a daemon that stopped answering."""
    return StageError(
        "docker-daemon-lost",
        message,
        hint="The Docker daemon stopped or dropped the connection: read its log (with docker:dind, "
        "the service's), then run again.",
    )


def _push(message: str, reason: str) -> StageError:
    if _REFUSED.search(reason):
        return StageError(
            "docker-push-refused",
            message,
            hint="The registry refused it: check that the repository exists, that the login may "
            "push to it, and whether its tags are immutable.",
        )
    return StageError(
        "docker-push-failed",
        message,
        hint="Run again: layers that have arrived are not sent a second time.",
    )
