"""What is shown of the log of `terraform init`."""

import pytest

from cipipe.tools.terraform.commands import usual


@pytest.mark.parametrize("program", ["Terraform", "OpenTofu"])
def test_a_lock_file_that_does_not_stay_is_not_to_be_committed(program: str) -> None:
    text = (
        f"{program} has created a lock file .terraform.lock.hcl to record the provider\n"
        "selections it made above. Include this file in your version control repository"
    )
    shown = usual({"type": "init_output", "@message": text})
    assert shown is not None
    assert "Include this file" not in shown
    assert "provider versions are not pinned" in shown


def test_everything_else_is_shown_as_it_is() -> None:
    assert usual({"@message": "Initializing the backend..."}) == "Initializing the backend..."
