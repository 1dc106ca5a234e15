"""The profile that children of a run work with: AWS's own tools, as processes, renew what they get
through it.
"""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cipipe.errors import IdentityError
from cipipe.model import Mode
from cipipe.oidc.renewal import Renewed
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.project import load
from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError
from support.jobs import REGION, github, gitlab, sandbox_with_roles, shell
from support.sessions import session_of

BOTO3 = """
import boto3, sys, time
sts = boto3.client("sts")
for wait in (0, float(sys.argv[1])):
    time.sleep(wait)
    keys = boto3._get_default_session().get_credentials()
    print(sts.get_caller_identity()["Arn"], keys.access_key)
"""

HOLDER = """
import os, sys, time
from datetime import UTC, datetime
from cipipe.oidc.renewal import Renewed
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
keys = Credentials("ASIAX", "s", "t", datetime(2099, 1, 1, tzinfo=UTC))
renewed = Renewed(lambda: keys, lambda: datetime.now(UTC))
with served(Access(Aws(Endpoint("eu-central-1"), None), {}, renewed), print) as access:
    print(access.child_env["AWS_CONFIG_FILE"], flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(autouse=True)
def _short_temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("t")))


def simple(begin: object = None) -> Access:
    """Access with credentials that nobody had to exchange anything for."""
    given = Credentials(
        "ASIAX", "the-secret-key", "the-session-token", datetime.now(UTC) + timedelta(hours=1)
    )
    renewed = Renewed(begin or (lambda: given), lambda: datetime.now(UTC))  # type: ignore[arg-type]
    env = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/x",
        "KEPT": "yes",
    }
    return Access(Aws(Endpoint(REGION), None), env, renewed)


def ask(env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """What an SDK does with the profile: `sh -c` and the line in it."""
    line = (
        Path(env["AWS_CONFIG_FILE"])
        .read_text()
        .partition("credential_process = ")[2]
        .partition("\n")[0]
    )
    return subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("provider", [gitlab, github])
def test_boto3_renews_what_a_run_serves(sandbox: Sandbox, tmp_path: Path, provider: object) -> None:
    job = provider(tmp_path / "repo", sandbox)  # type: ignore[operator]
    project = load(job.root, job.env)
    sandbox.limit_sessions(6)
    try:
        access = session_of(project).connect(Mode.DEPLOY)
        with served(access, print) as inside:
            env = dict(inside.child_env)
            done = subprocess.run(
                [sys.executable, "-c", BOTO3, "7"],
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert access.aws.account_id() == "111111111111", "this process renews its own as well"
    finally:
        sandbox.limit_sessions(None)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[0] == second[0]
    assert first[1] != second[1]
    shown = "".join(env.values())
    secret = job.env.get("AWS_ID_TOKEN") or job.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    assert secret not in shown
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & env.keys()


def test_keys_of_a_session_that_is_over_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    job = gitlab(tmp_path / "repo", sandbox)
    sandbox.limit_sessions(1)
    try:
        access = session_of(load(job.root, job.env)).connect(Mode.DEPLOY)
        assert access.renewed is not None
        aws = Aws(sandbox.endpoint(REGION), access.renewed.current())
    finally:
        sandbox.limit_sessions(None)
    time.sleep(1.1)
    for service, operation in (
        ("sts", "get_caller_identity"),
        ("s3", "list_buckets"),
        ("ssm", "describe_parameters"),
    ):
        with pytest.raises(AwsError) as caught:
            aws.call(service, operation)
        assert caught.value.code in {"ExpiredToken", "ExpiredTokenException"}
    with pytest.raises(AwsError) as caught:
        aws.call("ec2", "describe_vpcs")
    assert caught.value.code == "RequestExpired"


def test_a_folder_that_only_its_user_may_enter_and_that_goes(tmp_path: Path) -> None:
    with served(simple(), print) as access:
        env = access.child_env
        folder = Path(env["AWS_CONFIG_FILE"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {
            stat.S_IMODE((folder / name).stat().st_mode)
            for name in ("config", "credentials", "socket")
        } == {0o600}
        written = "".join(path.read_text() for path in folder.iterdir() if path.is_file())
        assert "the-secret-key" not in written
        assert (env["KEPT"], env["AWS_PROFILE"]) == ("yes", "cipipe")
        assert not {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"} & env.keys()
        done = ask(dict(env))
        assert (done.returncode, done.stderr) == (0, "")
        assert "the-secret-key" in done.stdout
    assert not folder.exists()


def test_the_environment_of_the_child_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "cipipe.py").write_text("raise SystemExit(9)")
    with served(simple(), print) as access:
        hostile = {
            "PYTHONPATH": str(tmp_path),
            "PYTHONHOME": "/nonexistent",
            "PYTHONSTARTUP": "/x",
            "PATH": os.environ["PATH"],
        }
        assert ask({**access.child_env, **hostile}).returncode == 0


def test_a_temporary_folder_with_spaces_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with served(simple(), print) as access:
        assert " " not in access.child_env["AWS_CONFIG_FILE"]
        assert ask(dict(access.child_env)).returncode == 0


def test_a_run_that_cannot_renew_says_so_once_and_the_child_gets_nothing() -> None:
    def begin() -> Credentials:
        raise IdentityError("oidc-token-expired", "the token expired 9 s ago")

    warned: list[str] = []
    with served(simple(begin), warned.append) as access:
        for _ in range(2):
            done = ask(dict(access.child_env))
            assert (done.returncode, done.stdout) == (3, "")
            assert "the token expired 9 s ago [oidc-token-expired]" in done.stderr
    assert warned == [
        (
            "the credentials of this run could not be renewed: the "
            "token expired 9 s ago [oidc-token-expired]"
        )
    ]


def test_after_the_run_there_is_nothing_to_be_had() -> None:
    with served(simple(), print) as access:
        config = Path(access.child_env["AWS_CONFIG_FILE"])
        program = (config.parent / "credentials").read_text()
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "oidc-not-served" in done.stderr


def test_what_a_killed_run_left_is_removed_and_what_another_one_needs_is_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    top = tmp_path_factory.mktemp("s")
    env = {**os.environ, "TMPDIR": str(top)}
    argv = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        left = Path(killed.stdout.readline().strip()).parent
        killed.send_signal(signal.SIGKILL)
    assert left.exists()
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        used = Path(running.stdout.readline().strip()).parent
        assert not left.exists()
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as third:
            assert third.stdout is not None
            third.stdout.readline()
            assert used.exists()
            third.kill()
        running.kill()


def test_what_a_run_left_that_was_killed_at_its_start_is_removed(tmp_path: Path) -> None:
    top = Path(tempfile.gettempdir())
    old, new = top / "cipipe-new-old", top / "cipipe-new-new"
    for draft in (old, new):
        draft.mkdir()
        (draft / "lock").touch()
    os.utime(old, (0, 0))
    with served(simple(), print):
        assert not old.exists()
        assert new.exists(), "another run may be at it"


def test_a_persons_own_credentials_are_left_as_they_are(sandbox: Sandbox, tmp_path: Path) -> None:
    job = shell(tmp_path / "repo", sandbox)
    keys = sandbox.admin.environment()
    access = session_of(load(job.root, {**job.env, **keys})).connect(Mode.DEPLOY)
    with served(access, print) as inside:
        assert inside is access
        assert inside.child_env["AWS_ACCESS_KEY_ID"] == keys["AWS_ACCESS_KEY_ID"]
