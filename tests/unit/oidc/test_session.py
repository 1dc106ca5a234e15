import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.errors import IdentityError
from cipipe.oidc import session as module
from cipipe.oidc.session import SessionRequest, check, policy_text, session_name


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("project", "dev", "12"), "project-dev-12"),
        (("group/project", "feature/ä ö", "12"), "group-project-feature-12"),
        (("x" * 100, "12"), "x" * 61 + "-12"),
        (("a",), "cipipe-a"),
        ((), "cipipe"),
        (("", ""), "cipipe"),
        (("a", "b" * 100), "b" * 64),
    ],
)
def test_session_names(parts: tuple[str, ...], name: str) -> None:
    assert session_name(*parts) == name


@given(st.lists(st.text(), max_size=4))
def test_a_generated_session_name_is_always_valid(parts: list[str]) -> None:
    assert module._NAME.fullmatch(session_name(*parts))


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-northwest-1", "aws-cn"), ("us-gov-east-1", "aws-us-gov")],
)
def test_each_partition_has_its_own_roles(region: str, partition: str) -> None:
    check(
        SessionRequest(
            role_arn=f"arn:{partition}:iam::111111111111:role/x",
            account_id="111111111111",
            name="name",
        ),
        region=region,
    )


@pytest.mark.parametrize("duration", [899, 3601, 43200])
def test_a_chained_session_lasts_an_hour_at_most(duration: int) -> None:
    session = SessionRequest(
        role_arn="arn:aws:iam::111111111111:role/x",
        account_id="111111111111",
        name="name",
        duration=duration,
    )
    with pytest.raises(IdentityError) as caught:
        check(session, region="eu-central-1", chained=True)
    assert caught.value.id == "oidc-duration"


def test_a_policy_is_sent_without_whitespace() -> None:
    assert policy_text({}) == ""
    assert policy_text({"Statement": [{"Sid": "\u00e4"}]}) == '{"Statement":[{"Sid":"\\u00e4"}]}'
