"""What people are told who have no credentials at all."""

from typing import Any

import pytest

from cipipe.errors import IdentityError
from cipipe.pipeline.identity.access import check_account
from cipipe.tools.aws.errors import AwsUnreachable, NoCredentials


class Answering:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def account_id(self) -> str:
        raise self._error


def refused(error: Exception) -> IdentityError:
    aws: Any = Answering(error)
    environment: Any = None
    with pytest.raises(IdentityError) as caught:
        check_account(aws, "dev", environment)
    return caught.value


def test_no_credentials_are_not_taken_for_a_network_that_fails() -> None:
    found = refused(NoCredentials())
    assert found.id == "identity-missing"
    assert found.message.startswith("there are no AWS credentials here")


def test_an_aws_that_does_not_answer() -> None:
    found = refused(AwsUnreachable("connection refused"))
    assert found.id == "identity-missing"
    assert "AWS does not answer: connection refused" in found.message
