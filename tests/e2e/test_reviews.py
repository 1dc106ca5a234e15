"""A reviewed change of infrastructure: a merge request's job records it, and a deployment is held
to it. Real Terraform, in a sandbox whose roles `cipipe bootstrap` made.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.infrastructure import BUCKET, LEDGER, PROVIDERS, STATE, Infrastructure, infrastructure

SECRET = "correct-horse-battery-7"


def main(value: str, extra: str = "") -> dict[str, str]:
    """Two parameters, one of them with a secret, and whatever else."""
    return {
        "infra/main.tf": PROVIDERS
        + f"""
variable "password" {{
  type      = string
  sensitive = true
  default   = "{SECRET}"
}}

resource "aws_ssm_parameter" "one" {{
  name  = "/shop/dev/one"
  type  = "String"
  value = nonsensitive("{value}")
}}

resource "aws_ssm_parameter" "secret" {{
  name  = "/shop/dev/secret"
  type  = "String"
  value = var.password
}}

resource "terraform_data" "copy" {{
  input = var.password
}}

output "copied" {{
  value     = terraform_data.copy.output
  sensitive = true
}}
{extra}
"""
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infrastructure]:
    folder = tmp_path_factory.mktemp("reviews") / "repository"
    required = 'review = "required"'
    with infrastructure(
        folder, main("first"), environment=required, CIPIPE_SANDBOX_IAM="enforce"
    ) as made:
        yield made


def reviews(project: Infrastructure) -> list[str]:
    return project.keys(f"{LEDGER}reviews/")


def branch(project: Infrastructure, name: str, files: dict[str, str]) -> None:
    project.clone.git("checkout", "--quiet", "-b", name)
    project.commit(files)


def test_what_nobody_reviewed_is_refused_with_nothing_applied(project: Infrastructure) -> None:
    done = project.push()
    assert done.status == 5, done.text
    assert "terraform-not-reviewed" in done.err
    assert "aws_ssm_parameter.one: creates, which was not reviewed" in done.err
    assert SECRET not in done.text
    state = json.loads(project.object(STATE) or b"{}")
    assert state.get("resources", []) == []
    record = project.record()
    assert record is not None
    assert record["state"] == "failed"


def test_a_squash_of_a_reviewed_change_is_deployed(project: Infrastructure) -> None:
    branch(project, "start", main("first", "# a comment"))
    before = project.keys()
    shown = project.merge_request()
    assert shown.status == 0, shown.text
    assert "Created (3)" in shown.err
    assert "recorded these changes as reviewed" in shown.err
    # A merge request's job writes its review, and nothing else.
    (review,) = reviews(project)
    assert sorted({*project.keys()} - {*before}) == [review]

    again = project.merge_request()
    assert again.status == 0, again.text
    assert "these changes are recorded already" in again.err
    assert reviews(project) == [review]

    project.squashed("start")
    done = project.push()
    assert done.status == 0, done.text
    assert "as reviewed in merge request 5" in done.err
    assert (project.record() or {})["state"] == "deployed"


def test_a_change_in_the_console_after_the_review_is_refused_by_name(
    project: Infrastructure,
) -> None:
    branch(project, "second", main("second"))
    assert project.merge_request().status == 0
    ssm = project.aws.client("ssm")
    ssm.put_parameter(Name="/shop/dev/secret", Value="from the console", Overwrite=True)
    project.squashed("second")
    state = project.object(STATE)

    done = project.push()
    assert done.status == 5, done.text
    assert "terraform-beyond-review" in done.err
    assert "aws_ssm_parameter.secret: updates, which was not reviewed" in done.err
    assert "aws_ssm_parameter.one:" not in done.err.partition("does more than what was reviewed")[2]
    assert project.object(STATE) == state
    assert ssm.get_parameter(Name="/shop/dev/one")["Parameter"]["Value"] == "first"

    # The way out that the error names: the merge request's job again.
    project.clone.git("checkout", "--quiet", "second")
    shown = project.merge_request()
    assert shown.status == 0, shown.text
    assert "Changed outside of Terraform" in shown.err
    project.clone.git("checkout", "--quiet", "main")
    done = project.push()
    assert done.status == 0, done.text
    assert ssm.get_parameter(Name="/shop/dev/secret")["Parameter"]["Value"] == SECRET


def test_less_than_what_was_reviewed_is_deployed(project: Infrastructure) -> None:
    """As after a run that was stopped in the middle."""
    more = 'resource "aws_ssm_parameter" "two" {\n  name  = "/shop/dev/two"\n  type  = "String"\n'
    branch(project, "third", main("third", more + '  value = "2"\n}\n'))
    assert project.merge_request().status == 0
    project.squashed("third")
    ssm = project.aws.client("ssm")
    # Somebody was faster with one of the two.
    ssm.put_parameter(Name="/shop/dev/one", Value="third", Overwrite=True)
    done = project.push()
    assert done.status == 0, done.text
    assert "as reviewed in" in done.err


def test_the_verify_role_neither_changes_nor_deletes_a_review(project: Infrastructure) -> None:
    s3 = project.as_verify()
    key = reviews(project)[0]
    before = project.object(key)
    attempts: list[tuple[str, dict[str, Any], str]] = [
        ("put_object", {"Key": key, "Body": b"{}"}, "AccessDenied"),
        ("put_object", {"Key": key, "Body": b"{}", "IfNoneMatch": "*"}, "PreconditionFailed"),
        ("delete_object", {"Key": key}, "AccessDenied"),
        (
            "put_object",
            {"Key": f"{LEDGER}iac.json", "Body": b"", "IfNoneMatch": "*"},
            "AccessDenied",
        ),
        ("delete_object", {"Key": STATE}, "AccessDenied"),
    ]
    for operation, arguments, code in attempts:
        with pytest.raises(ClientError) as caught:
            getattr(s3, operation)(Bucket=BUCKET, **arguments)
        assert caught.value.response["Error"]["Code"] == code, (operation, arguments)
    assert project.object(key) == before


def test_no_object_but_the_state_has_the_secret(project: Infrastructure) -> None:
    assert project.places_of(SECRET) == []
    # The search finds what there is: the state has it.
    assert SECRET.encode() in (project.object(STATE) or b"")


def test_a_sandbox_at_a_shell_has_no_merge_requests(project: Infrastructure) -> None:
    project.commit(main("fourth"))
    done = project.shell("run")
    assert done.status == 0, done.text
    assert "review" not in done.err
