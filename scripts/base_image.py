#!/usr/bin/env python3
"""Find or make the base image of the dbt container, and write the outcome to `.cipipe/env`.

Where the default of `dbt/Dockerfile` can be pulled, `.cipipe/env` stays empty. Elsewhere Debian is
bootstrapped from the mirror that this machine's apt uses, and imported as `cipipe-base:bookworm`.
`scripts/setup` runs this with `.venv/bin/python`, for the Docker SDK. What cannot be done here is
said on standard error and is no failure: the pipeline then skips the image stage.
"""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import docker
from docker.errors import DockerException, ImageNotFound

from cipipe.tools.own_folder import own_folder

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".cipipe"
DATA_ROOT = STATE / "docker"  # the sandbox starts its dockerd on the same folder
STAMP = DATA_ROOT / "cipipe-base-image"
TARBALL = STATE / "base-image.tar"

REPOSITORY, SUITE = "cipipe-base", "bookworm"
LABEL = "cipipe.base-image"
PACKAGES = "python3,python3-venv,ca-certificates"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """Something that this machine lacks; the message says what, and how to get it."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own_folder(ROOT)
    chosen = os.environ.get("BASE_IMAGE")
    if chosen:
        say(f"base image: {chosen}, as BASE_IMAGE says")
    else:
        try:
            chosen = find_or_make()
        except (Unavailable, DockerException, OSError, subprocess.SubprocessError) as error:
            say(f"no base image for the dbt container: {reason(error)}")
    replace(STATE / "env", f"BASE_IMAGE={chosen}\n" if chosen else "")
    return 0


def find_or_make() -> str | None:
    """The image to pass as BASE_IMAGE, or None where the Dockerfile's default serves."""
    default = default_base_image()
    recipe = recipe_digest()
    client = reachable_daemon()
    if client is None and STAMP.exists():
        made_for, _, outcome = STAMP.read_text().rpartition("\n")
        if made_for == f"{default} {recipe}":
            return outcome or None
    with ExitStack() as stack:
        client = client or stack.enter_context(private_daemon())
        if image_label(client, ours()) == recipe:
            made = ours()
        elif image_label(client, default) is not None or pull(client, default):
            made = ""
        else:
            import_image(client, recipe)
            made = ours()
        if DATA_ROOT.exists() and client.info()["DockerRootDir"] == str(DATA_ROOT):
            replace(STAMP, f"{default} {recipe}\n{made}")
    return made or None


def ours() -> str:
    return f"{REPOSITORY}:{SUITE}"


def default_base_image() -> str:
    found = re.search(
        r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "dbt/Dockerfile").read_text(), re.MULTILINE
    )
    if found is None:
        raise Unavailable("dbt/Dockerfile has no line ARG BASE_IMAGE=…")
    return found[1]


def recipe_digest() -> str:
    """Changes when an image that lies ready would no longer come out the same."""
    parts = [Path(__file__).read_bytes(), pip_configuration().encode()]
    if ca_bundle().exists():
        parts.append(ca_bundle().read_bytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


# Docker


def reachable_daemon() -> docker.DockerClient | None:
    """The daemon of DOCKER_HOST or of the default socket; a tcp one may be a service of the job
    that starts late.
    """
    patience = 30 if os.environ.get("DOCKER_HOST", "").startswith("tcp://") else 0
    deadline = time.monotonic() + patience
    while True:
        try:
            docker.from_env(timeout=5).ping()
            return docker.from_env(timeout=600)
        except (DockerException, OSError):
            if time.monotonic() >= deadline:
                return None
            time.sleep(1)


@contextmanager
def private_daemon() -> Iterator[docker.DockerClient]:
    """A dockerd of our own for the moment; the images stay behind in its data root, for the
    sandbox.
    """
    dockerd = shutil.which("dockerd", path=search_path())
    if dockerd is None:
        raise Unavailable(
            "no Docker daemon answers and dockerd is not installed: https://docs.docker.com/get-docker/"
        )
    if os.geteuid() != 0:
        raise Unavailable("no Docker daemon answers; start one, or run as root")
    DATA_ROOT.mkdir(exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context((STATE / "docker.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "a sandbox is running on .cipipe/docker; stop it with `cipipe sandbox down`"
            ) from None
        # A unix socket's path has 107 bytes at most: the checkout may lie too deep for one.
        runtime = Path(tempfile.mkdtemp(prefix="cipipe-", dir="/tmp"))
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        log = stack.enter_context((STATE / "dockerd-setup.log").open("wb"))
        socket = f"unix://{runtime}/docker.sock"
        command = [
            dockerd,
            f"--data-root={DATA_ROOT}",
            f"--exec-root={runtime}/exec",
            f"--pidfile={runtime}/pid",
        ]
        (runtime / "daemon.json").write_text(
            "{}"
        )  # /etc/docker/daemon.json may hold what clashes with these options
        command += [
            f"--config-file={runtime}/daemon.json",
            f"--host={socket}",
            "--iptables=false",
            "--ip6tables=false",
        ]
        # Nothing runs in it, so it needs no network; but told "none", dockerd would delete another
        # daemon's docker0.
        if not Path("/sys/class/net/docker0").exists():
            command += ["--bridge=none"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": search_path()},
            start_new_session=True,
        )
        stack.callback(stop, process)
        yield wait_for(socket, process)


def wait_for(socket: str, process: subprocess.Popen[bytes]) -> docker.DockerClient:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            docker.DockerClient(base_url=socket, timeout=5).ping()
            return docker.DockerClient(base_url=socket, timeout=600)
        except (DockerException, OSError):
            time.sleep(0.2)
    raise Unavailable("dockerd does not start here; see .cipipe/dockerd-setup.log")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def image_label(client: docker.DockerClient, name: str) -> str | None:
    """Our label on the image: empty on one that is not ours, None where there is no such image."""
    try:
        image = client.images.get(name)
    except ImageNotFound:
        return None
    return str(image.labels.get(LABEL, ""))


def pull(client: docker.DockerClient, name: str) -> bool:
    say(f"pulling {name}")
    try:
        client.images.pull(name)
    except (DockerException, OSError) as error:
        say(f"it cannot be pulled: {reason(error)}")
        return False
    return True


def import_image(client: docker.DockerClient, recipe: str) -> None:
    made_from = TARBALL.with_suffix(".recipe")
    if not (TARBALL.exists() and made_from.exists() and made_from.read_text() == recipe):
        bootstrap(TARBALL)
        replace(made_from, recipe)
    say(f"importing {TARBALL.relative_to(ROOT)} as {ours()}")
    environment = f"PATH={SYSTEM_PATH} PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}"
    client.api.import_image_from_file(
        str(TARBALL),
        repository=REPOSITORY,
        tag=SUITE,
        changes=[f"ENV {environment}", f"LABEL {LABEL}={recipe}", 'CMD ["python3"]'],
    )
    if image_label(client, ours()) != recipe:
        raise Unavailable(f"docker did not import {TARBALL}")


# Debian


def bootstrap(target: Path) -> None:
    """Make the root file system of a small Debian with Python and this machine's certificates, as a
    tar file.
    """
    debootstrap = shutil.which("debootstrap", path=search_path())
    if debootstrap is None or os.geteuid() != 0:
        raise Unavailable(
            "pull it, name another in BASE_IMAGE, "
            "or run as root on Debian with debootstrap installed"
        )
    mirror = debian_mirror()
    say(f"making {ours()} with debootstrap from {mirror or 'its default mirror'}")
    work = Path(tempfile.mkdtemp(prefix="base-image-", dir=STATE))
    rootfs = work / "rootfs"
    command = [
        debootstrap,
        "--variant=minbase",
        f"--include={PACKAGES}",
        SUITE,
        str(rootfs),
        *([mirror] if mirror else []),
    ]
    log = STATE / "debootstrap.log"
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                [*own_mounts(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **apt_proxy(), "PATH": search_path(), "LC_ALL": "C"},
                umask=0o022,
                check=False,
            )
        if done.returncode:
            raise Unavailable(f"debootstrap failed; see {log.relative_to(ROOT)}")
        furnish(rootfs)
        part = target.with_suffix(".part")
        subprocess.run(
            ["tar", "--numeric-owner", "--one-file-system", "-C", rootfs, "-cf", part, "."],
            check=True,
        )
        part.replace(target)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", work], check=False)


def furnish(rootfs: Path) -> None:
    for leftover in ["etc/resolv.conf", "etc/hostname"]:
        (rootfs / leftover).unlink(missing_ok=True)
    for folder in ["var/cache/apt/archives", "var/lib/apt/lists"]:
        for file in (rootfs / folder).iterdir():
            if file.is_file():
                file.unlink()
    if ca_bundle().exists():
        shutil.copyfile(ca_bundle(), rootfs / CA_BUNDLE.lstrip("/"))
    (rootfs / "etc/pip.conf").write_text(pip_configuration())


def own_mounts() -> list[str]:
    """debootstrap mounts /proc; in a mount namespace that ends with it, whatever ends it."""
    unshare = ["unshare", "--mount"]
    if (
        shutil.which("unshare")
        and subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode == 0
    ):
        return unshare
    return []


def debian_mirror() -> str | None:
    """The mirror that apt uses here, where this is Debian and it names one; every one of them has
    the suite.
    """
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        return None
    command = [
        "apt-get",
        "indextargets",
        "--format",
        "$(COMPONENT) $(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    ]
    listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        component, release, uri = line.split(maxsplit=2)
        if (
            component == "main"
            and release.isalpha()
            and urlsplit(uri).path.rstrip("/").endswith("debian")
        ):
            return uri.rstrip("/")
    return None


def apt_proxy() -> dict[str, str]:
    command = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
    if shutil.which(command[0]) is None:
        return {}
    found = re.match(
        r"proxy='(http.+)'",
        subprocess.run(command, check=False, capture_output=True, text=True).stdout,
    )
    return {"http_proxy": found[1]} if found else {}


def ca_bundle() -> Path:
    return Path(os.environ.get("SSL_CERT_FILE") or CA_BUNDLE)


def pip_configuration() -> str:
    """Where pip finds packages on this machine, as far as that serves inside an image: web
    addresses without a password.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    settings: dict[str, list[str]] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in {"index-url", "extra-index-url"}:
            urls = value.strip("'").replace("\\n", " ").split()
            settings[name] = [
                u
                for u in urls
                if urlsplit(u).scheme in {"http", "https"} and not urlsplit(u).username
            ]
        elif name == "trusted-host":
            settings[name] = value.strip("'").replace("\\n", " ").split()
    return "[global]\n" + "".join(
        f"{name} = {' '.join(values)}\n" for name, values in settings.items() if values
    )


# Small things


def search_path() -> str:
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"


def replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def reason(error: Exception) -> str:
    """What the Docker daemon said, without the request that it said it to."""
    return str(getattr(error, "explanation", None) or error)


def say(text: str) -> None:
    sys.stderr.write(f"==> {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
