"""Find or build the base images of this repository's two Dockerfiles.

    python scripts/base_image        the one of the dbt container
    python scripts/base_image job    the one of the image for CI jobs, for the tests

Where the default of `dbt/Dockerfile` can be pulled, `.cipipe/env` stays empty. Elsewhere a Debian
from this machine's mirror is imported as `cipipe-base:bookworm`, which `.cipipe/env` then names.
Where the default of `container/Dockerfile` cannot be pulled, `.cipipe/base-image-trixie.tar` has
its counterpart: the tests import it into a daemon of their own.

`scripts/setup` runs this folder with `.venv/bin/python`, for the Docker SDK. A base image that
cannot be provided is reported on standard error and is no failure: the pipeline then skips the
image stage.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack

import docker
from docker.errors import DockerException, ImageNotFound

from cipipe.tools.own_folder import own_folder
from common import ROOT, STATE, SYSTEM_PATH, Unavailable, replace, say
from daemon import DATA_ROOT, private_daemon, reachable_daemon
from debian import CA_BUNDLE, DEBIAN_12, DEBIAN_13, ensure_tarball, recipe_digest

STAMP = DATA_ROOT / "cipipe-base-image"
LABEL = "cipipe.base-image"
REPOSITORY = "cipipe-base"
OURS = f"{REPOSITORY}:{DEBIAN_12.suite}"

# What can go wrong on a machine that lacks something, and is no failure of this program.
FAILURES = (Unavailable, DockerException, OSError, subprocess.SubprocessError)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own_folder(ROOT)

    if sys.argv[1:] == ["job"]:
        for_jobs()
    else:
        for_dbt()
    return 0


def for_dbt() -> None:
    chosen = os.environ.get("BASE_IMAGE")
    if chosen:
        say(f"base image: {chosen}, from the environment variable BASE_IMAGE")
    else:
        try:
            chosen = find_or_build()
        except FAILURES as error:
            say(f"no base image for the dbt container: {reason(error)}")

    replace(STATE / "env", f"BASE_IMAGE={chosen}\n" if chosen else "")


def for_jobs() -> None:
    """The tar file, where the machine's daemon cannot pull the default."""
    default = default_base_image("container/Dockerfile")
    try:
        if not DEBIAN_13.tarball.exists():
            client = reachable_daemon()
            if client and (image_label(client, default) is not None or pull(client, default)):
                return
        ensure_tarball(DEBIAN_13, f"a base image for jobs, in place of {default},")
    except FAILURES as error:
        say(f"no base image for the image of jobs: {reason(error)}")


def find_or_build() -> str | None:
    """The image to pass as BASE_IMAGE, or None if the Dockerfile's default can be used."""
    default = default_base_image("dbt/Dockerfile")
    recipe = recipe_digest(DEBIAN_12)
    client = reachable_daemon()

    # Starting a daemon only to look takes seconds, so the last result is kept next to its images.
    if client is None and STAMP.exists():
        found_for, _, outcome = STAMP.read_text().rpartition("\n")
        if found_for == f"{default} {recipe}":
            return outcome or None

    with ExitStack() as stack:
        client = client or stack.enter_context(private_daemon())
        if image_label(client, OURS) == recipe:
            found = OURS
        elif image_label(client, default) is not None or pull(client, default):
            found = ""
        else:
            import_image(client, recipe)
            found = OURS

        if DATA_ROOT.exists() and client.info()["DockerRootDir"] == str(DATA_ROOT):
            replace(STAMP, f"{default} {recipe}\n{found}")

    return found or None


def default_base_image(dockerfile: str) -> str:
    text = (ROOT / dockerfile).read_text()
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    if found is None:
        raise Unavailable(f"{dockerfile} has no line ARG BASE_IMAGE=…")
    return found[1]


def image_label(client: docker.DockerClient, name: str) -> str | None:
    """Our label on the image: empty if the image is not ours, None if it does not exist."""
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
        say(f"cannot pull it: {reason(error)}")
        return False
    return True


def import_image(client: docker.DockerClient, recipe: str) -> None:
    ensure_tarball(DEBIAN_12, OURS)

    tarball = DEBIAN_12.tarball
    say(f"importing {tarball.relative_to(ROOT)} as {OURS}")
    environment = f"PATH={SYSTEM_PATH} PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}"
    client.api.import_image_from_file(
        str(tarball),
        repository=REPOSITORY,
        tag=DEBIAN_12.suite,
        changes=[f"ENV {environment}", f"LABEL {LABEL}={recipe}", 'CMD ["python3"]'],
    )
    # docker import reports some failures in its output only, which the SDK does not raise.
    if image_label(client, OURS) != recipe:
        raise Unavailable(f"docker did not import {tarball}")


def reason(error: Exception) -> str:
    """The Docker daemon's own words, without the request that they answer."""
    return str(getattr(error, "explanation", None) or error)


if __name__ == "__main__":
    sys.exit(main())
