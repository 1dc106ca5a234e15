"""Which user is at the other end of a loopback connection: on Linux, /proc
says so of every socket.

Other users of the machine may not mint tokens, read images or ask about the sandbox. Where the
system does not say (macOS), everybody may.
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

# 127.0.0.1 in the two tables, on a little-endian machine. A dual-stack socket has the second form.
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


class OwnerOnly:
    """A WSGI application that answers its owner and root, and refuses everybody else."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._app if permitted(environ) else refusal(Request(environ))
        return answer(environ, start_response)


def permitted(environ: WSGIEnvironment) -> bool:
    """Whether the caller is this process's user or root, or the system does not say."""
    if sys.platform != "linux":
        return True

    # root: Docker's daemon pulls and pushes images.
    return user_of(int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"])) in {0, os.geteuid()}


def user_of(port: int, server_port: int) -> int | None:
    """The user whose socket at `port` is connected to `server_port`, both
    on 127.0.0.1.

    None if there is no such socket (any more).
    """
    for table in _TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            local = fields[1]
            remote = fields[2]
            user = fields[7]
            inode = fields[9]

            # A socket that its process has closed has no inode. Its user is
            # 0, and not root.
            if inode != "0" and _is(local, port) and _is(remote, server_port):
                return int(user)
    return None


def refusal(request: Request) -> Response:
    text = "this sandbox belongs to another user of the machine"
    if request.path.startswith("/v2/"):
        return json_answer({"errors": [{"code": "DENIED", "message": text}]}, 403)
    return json_answer({"error": text}, 403)


def _is(address: str, port: int) -> bool:
    host, _, number = address.partition(":")
    return int(number, 16) == port and host in _LOOPBACK
