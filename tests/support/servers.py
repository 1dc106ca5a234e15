"""Servers on loopback, in threads of this process, for as long as a block lasts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def moto() -> Iterator[str]:
    """The URL of an AWS of moto's. moto's in-process mock is not made for threads."""
    # Imported here: moto takes long to import, and most tests do without it.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def wsgi(app: Any) -> Iterator[str]:
    """The URL of a WSGI application."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
