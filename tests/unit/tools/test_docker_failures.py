"""What Docker says is read as what it is about."""

import pytest

from cipipe.tools.docker.failures import failure


@pytest.mark.parametrize(
    ("reason", "id"),
    [
        ("write /var/lib/docker/tmp/x: no space left on device", "docker-no-space"),
        ("failed to receive status: rpc error: code = Unavailable", "docker-daemon-lost"),
        ("Cannot connect to the Docker daemon at tcp://d:2376", "docker-daemon-lost"),
        (
            "denied: User: arn:aws:… is not authorized to perform: ecr:PutImage",
            "docker-push-refused",
        ),
        ("tag invalid: The image tag 'x' already exists", "docker-push-refused"),
        ("no basic auth credentials", "docker-push-refused"),
        (
            "unknown: Your authorization token has expired. Reauthenticate and try again.",
            "docker-push-refused",
        ),
        ("ExpiredToken: the token is expired", "docker-push-refused"),
        ("name unknown: The repository with name 'x' does not exist", "docker-push-refused"),
        ("unexpected HTTP status: 403 Forbidden", "docker-push-refused"),
        ('Patch "https://r/v2/x": read: connection reset by peer', "docker-push-failed"),
        ("received unexpected HTTP status: 500 Internal Server Error", "docker-push-failed"),
    ],
)
def test_the_reason_of_a_push(reason: str, id: str) -> None:
    error = failure("docker push of r/x:1", reason, id="docker-push-failed")
    assert error.id == id
    assert error.message == f"docker push of r/x:1 failed: {reason}"
    assert error.hint


def test_a_refusal_is_none_of_a_build() -> None:
    error = failure("docker build of x", "pull access denied for y", id="docker-build-failed")
    assert error.id == "docker-build-failed"


def test_an_end_of_file_is_the_daemons_only_in_a_build() -> None:
    build = failure("docker build of r/x:1", "unexpected EOF", id="docker-build-failed")
    push = failure("docker push of r/x:1", "unexpected EOF", id="docker-push-failed")
    assert (build.id, push.id) == ("docker-daemon-lost", "docker-push-failed")
