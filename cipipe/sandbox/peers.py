"""Who is at the other end of a loopback connection: Linux tells the user of every socket.

Other users of the machine may not mint tokens, read images or ask the sandbox about itself. Where
the system does not tell (macOS), everybody may.
https://docs.kernel.org/networking/proc_net_tcp.html
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cipipe.sandbox.web import (
    Request,
    Response,
    StartResponse,
    WSGIApplication,
    WSGIEnvironment,
    json_answer,
)

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
"""127.0.0.1 as the two tables write it, on a little-endian machine; a dual-stack socket has the
second form.
"""


class OwnerOnly:
    """A WSGI application that answers its owner, and root, and refuses everybody else."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._app if permitted(environ) else refusal(Request(environ))
        return answer(environ, start_response)


def permitted(environ: WSGIEnvironment) -> bool:
    """Whether the caller is this process's user or root, or the system does not tell."""
    if sys.platform != "linux":
        return True
    return user_of(int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"])) in {0, os.geteuid()}


def user_of(port: int, server_port: int) -> int | None:
    """The user whose socket on 127.0.0.1 at `port` is connected to `server_port`; None where there
    is none (any more).

    A socket that its process has closed belongs to nobody: its entry names user 0, but no inode.
    """
    for table in _TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            local, remote, user, inode = fields[1], fields[2], fields[7], fields[9]
            if inode != "0" and _is(local, port) and _is(remote, server_port):
                return int(user)
    return None


def refusal(request: Request) -> Response:
    text = "this sandbox belongs to another user of the machine"
    if request.path.startswith("/v2/"):
        return json_answer({"errors": [{"code": "DENIED", "message": text}]}, 403)
    return json_answer({"error": text}, 403)


def _is(place: str, port: int) -> bool:
    address, _, number = place.partition(":")
    return int(number, 16) == port and address in _LOOPBACK
