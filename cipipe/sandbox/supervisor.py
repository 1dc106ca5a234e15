"""The one process of a sandbox: it runs moto, the front and the issuer itself and keeps the
registry and dockerd.

It ends at SIGTERM or SIGINT, and, started attached, when its standard input ends: that happens too
when the process that started it is killed. What it started ends with it; on Linux also when it is
killed itself.
"""

import contextlib
import functools
import os
import secrets
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from cipipe.sandbox import needs, state
from cipipe.sandbox.aws.backend import MotoBackend
from cipipe.sandbox.aws.ecr import Ecr
from cipipe.sandbox.aws.front import Front
from cipipe.sandbox.aws.sts import Sts
from cipipe.sandbox.images import dockerd
from cipipe.sandbox.images.dockerd import Dockerd
from cipipe.sandbox.images.registry import RegistryServer
from cipipe.sandbox.images.registry_front import RegistryFront
from cipipe.sandbox.issuer import Issuer, connect_to
from cipipe.sandbox.peers import OwnerOnly
from cipipe.sandbox.web import Server


def serve(options: state.SandboxOptions, env: Mapping[str, str]) -> None:
    """Run a sandbox until it is told to end. Raises StageError where a service does not start."""
    os.umask(0o077)
    os.chdir(options.directory)  # the registry's socket is reached by a relative path
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: done.set())
    if options.attached:
        threading.Thread(target=_watch_input, args=(done,), daemon=True).start()
    with contextlib.ExitStack() as stack:
        state.write(options.directory, _start(options, env, stack))
        stack.callback((options.directory / state.NAME).unlink, missing_ok=True)
        done.wait()


def _start(
    options: state.SandboxOptions, env: Mapping[str, str], stack: contextlib.ExitStack
) -> state.SandboxState:
    missing = needs.missing(env)
    if not options.docker:
        missing["docker"] = "this sandbox was started without it"
    registry = daemon = None
    if program := needs.registry_program(env):
        registry = RegistryServer.start(options.directory, env, program)
        stack.callback(registry.stop)
    if options.docker and not dockerd.answers(env) and (program := dockerd.program(env)):
        daemon = Dockerd.start(options.directory, options.docker_data, env, program)
        stack.callback(daemon.stop)
    issuer = Server(OwnerOnly(Issuer()))
    secret = secrets.token_urlsafe(30)
    backend = MotoBackend(options.account_id, secret)
    sts = Sts(backend, functools.partial(connect_to, issuer_url=issuer.url))
    identity = secrets.token_hex(16)
    ecr = Ecr(backend, registry) if registry else None
    images = Server(OwnerOnly(RegistryFront(registry, backend.keeps_tag))) if registry else None
    if registry and images:
        registry.host = images.host
    front = Server(
        Front(backend, sts, ecr, identity=identity, region=options.region), backend.handler
    )
    for server in (issuer, front, images):
        if server:
            server.start()
    for service in (registry, daemon):
        if service:
            service.wait()
    return state.SandboxState(
        pid=os.getpid(),
        identity=identity,
        aws_url=front.url,
        issuer_url=issuer.url,
        registry=registry.host if registry else None,
        docker_host=daemon.host if daemon else None,
        account=state.Account(options.account_id, state.admin_key(options.account_id), secret),
        missing=missing,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _watch_input(done: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while sys.stdin.buffer.read(4096):
            pass
    done.set()
