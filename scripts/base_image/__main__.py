"""Find or build the base image of the dbt container, and write its name to `.cipipe/env`.

Where the default of `dbt/Dockerfile` can be pulled, `.cipipe/env` stays empty. Elsewhere a Debian
from this machine's mirror is imported as `cipipe-base:bookworm`. `scripts/setup` runs this folder
with `.venv/bin/python`, for the Docker SDK. A base image that cannot be provided is reported on
standard error and is no failure: the pipeline then skips the image stage.
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
from debian import CA_BUNDLE, SUITE, bootstrap, recipe_digest

STAMP = DATA_ROOT / "cipipe-base-image"
TARBALL = STATE / "base-image.tar"
LABEL = "cipipe.base-image"
REPOSITORY = "cipipe-base"
OURS = f"{REPOSITORY}:{SUITE}"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own_folder(ROOT)

    chosen = os.environ.get("BASE_IMAGE")
    if chosen:
        say(f"base image: {chosen}, from the environment variable BASE_IMAGE")
    else:
        try:
            chosen = find_or_build()
        except (Unavailable, DockerException, OSError, subprocess.SubprocessError) as error:
            say(f"no base image for the dbt container: {reason(error)}")

    replace(STATE / "env", f"BASE_IMAGE={chosen}\n" if chosen else "")
    return 0


def find_or_build() -> str | None:
    """The image to pass as BASE_IMAGE, or None if the Dockerfile's default can be used."""
    default = default_base_image()
    recipe = recipe_digest()
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


def default_base_image() -> str:
    dockerfile = (ROOT / "dbt/Dockerfile").read_text()
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    if found is None:
        raise Unavailable("dbt/Dockerfile has no line ARG BASE_IMAGE=…")
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
    built_from = TARBALL.with_suffix(".recipe")
    if not (TARBALL.exists() and built_from.exists() and built_from.read_text() == recipe):
        bootstrap(TARBALL, OURS)
        replace(built_from, recipe)

    say(f"importing {TARBALL.relative_to(ROOT)} as {OURS}")
    environment = f"PATH={SYSTEM_PATH} PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}"
    client.api.import_image_from_file(
        str(TARBALL),
        repository=REPOSITORY,
        tag=SUITE,
        changes=[f"ENV {environment}", f"LABEL {LABEL}={recipe}", 'CMD ["python3"]'],
    )
    # docker import reports some failures in its output only, which the SDK does not raise.
    if image_label(client, OURS) != recipe:
        raise Unavailable(f"docker did not import {TARBALL}")


def reason(error: Exception) -> str:
    """The Docker daemon's own words, without the request that they answer."""
    return str(getattr(error, "explanation", None) or error)


if __name__ == "__main__":
    sys.exit(main())
