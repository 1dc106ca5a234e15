"""What is true of every provider."""

import pytest

from cipipe import ci
from cipipe.ci import base, local
from cipipe.ci.base import NoToken, Provider, VariableToken
from cipipe.model import Context


@pytest.mark.parametrize("provider", ci.PROVIDERS.values(), ids=ci.PROVIDERS)
def test_what_is_logged_is_one_line(provider: Provider) -> None:
    for text in (provider.fold_start("a\nb", "t\nu"), provider.fold_end("a\nb")):
        assert "\n" not in text
    assert provider.mask("") == ""


@pytest.mark.parametrize("provider", ci.PROVIDERS.values(), ids=ci.PROVIDERS)
def test_an_empty_environment_is_no_error(provider: Provider) -> None:
    assert provider.context({}).provider == provider.NAME
    assert isinstance(provider.token({}, audience="a", token_variable="T"), NoToken)


def test_a_shell() -> None:
    assert ci.detect({}).NAME == "local"
    assert local.context({"USER": "ada"}) == Context(
        provider="local", event="manual", ref=None, ref_type="branch"
    )
    assert local.token({"T": "x"}, audience="a", token_variable="T") == VariableToken("T")
    assert local.colour({}) is None
    assert local.colour({"NO_COLOR": "1"}) is False
    assert local.warning("w") == "warning: w"
    assert local.fold_start("iac", "iac: apply") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), ("0" * 40, None), ("0" * 64, None), ("a0", "a0")],
)
def test_commit(text: str | None, expected: str | None) -> None:
    assert base.commit(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("", None), ("12", 12), ("-1", None), ("²", None)]
)
def test_number(text: str | None, expected: int | None) -> None:
    assert base.number(text) == expected
