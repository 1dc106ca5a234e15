"""The process of a sandbox: it runs moto, the front and the issuer itself,
and starts the registry and dockerd.

It stops at SIGTERM, SIGINT or SIGHUP and, if it is attached, when its
standard input ends, which also happens when the process that started it is
killed. What it started stops with it; on Linux also when it is killed
itself.
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
from cipipe.sandbox.aws.iam.enforcement import Enforcement
from cipipe.sandbox.aws.iam.existing import MotoResources
from cipipe.sandbox.aws.sts import Sts
from cipipe.sandbox.images import dockerd, registry_image
from cipipe.sandbox.images.dockerd import Dockerd
from cipipe.sandbox.images.registry import RegistryServer
from cipipe.sandbox.images.registry_front import RegistryFront
from cipipe.sandbox.issuer import Issuer, connect_to
from cipipe.sandbox.peers import OwnerOnly
from cipipe.sandbox.states import States
from cipipe.sandbox.web import Server


def serve(options: state.SandboxOptions, env: Mapping[str, str]) -> None:
    """Run a sandbox until it is stopped. Raises StageError if a service does not start."""
    os.umask(0o077)

    # The registry's socket is reached by a relative path.
    os.chdir(options.directory)

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
    """Start every service; `stack` stops them."""
    missing = needs.missing(env)
    if not options.docker:
        missing["docker"] = "this sandbox was started without it"

    # Other processes first: they start while moto is imported here.
    registry = _registry(options, env, stack)
    daemon = _dockerd(options, env, stack)
    if registry is None:
        registry = _registry_container(options, _with(daemon, env), stack, missing)

    issuer = Server(OwnerOnly(Issuer()))
    identity = secrets.token_hex(16)
    secret = secrets.token_urlsafe(30)
    backend = MotoBackend(options.account_id, secret)
    sts = Sts(backend, functools.partial(connect_to, issuer_url=issuer.url))

    states = Server(OwnerOnly(States()))
    servers = [issuer, states]
    ecr = None
    if registry is not None:
        images = Server(OwnerOnly(RegistryFront(registry, backend.keeps_tag)))
        registry.host = images.host
        servers.append(images)
        ecr = Ecr(backend, registry)
    application = Front(
        backend,
        sts,
        ecr,
        identity=identity,
        region=options.region,
        enforcement=Enforcement(MotoResources()) if options.enforce_iam else None,
    )
    front = Server(application, backend.handler)
    servers.append(front)

    for server in servers:
        server.start()
    for service in (registry, daemon):
        if service is not None:
            service.wait()

    administrator = state.Account(options.account_id, state.admin_key(options.account_id), secret)
    return state.SandboxState(
        pid=os.getpid(),
        identity=identity,
        aws_url=front.url,
        issuer_url=issuer.url,
        states_url=states.url,
        registry=registry.host if registry else None,
        docker_host=daemon.host if daemon else None,
        account=administrator,
        missing=missing,
        enforces_iam=options.enforce_iam,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _registry(
    options: state.SandboxOptions, env: Mapping[str, str], stack: contextlib.ExitStack
) -> RegistryServer | None:
    program = needs.registry_program(env)
    if program is None:
        return None
    registry = RegistryServer.start(options.directory, env, [program])
    stack.callback(registry.stop)
    return registry


def _registry_container(
    options: state.SandboxOptions,
    env: Mapping[str, str],
    stack: contextlib.ExitStack,
    missing: dict[str, str],
) -> RegistryServer | None:
    """A registry in a container; where there is none, `missing` has the reason."""
    if not options.docker or not registry_image.possible(env):
        missing["registry"] = needs.registry()
        return None
    try:
        command = registry_image.command(options.directory, env)
    except registry_image.UnavailableError as error:
        missing["registry"] = needs.registry(str(error))
        return None
    registry = RegistryServer.start(options.directory, env, command)
    stack.callback(registry.stop)
    return registry


def _with(daemon: Dockerd | None, env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment for the docker command, once a private daemon answers."""
    if daemon is None:
        return env
    daemon.wait()
    return {**env, "DOCKER_HOST": daemon.host}


def _dockerd(
    options: state.SandboxOptions, env: Mapping[str, str], stack: contextlib.ExitStack
) -> Dockerd | None:
    """A private daemon; None if the machine has one, or none can be started."""
    if not options.docker or dockerd.answers(env):
        return None
    program = dockerd.program(env)
    if program is None:
        return None
    daemon = Dockerd.start(program, env, folder=options.directory, data=options.docker_data)
    stack.callback(daemon.stop)
    return daemon


def _watch_input(done: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while sys.stdin.buffer.read(4096):
            pass
    done.set()
