"""cipipe.toml: what is right, and what is wrong, each with its key path and line."""

import pytest

from cipipe import config
from cipipe.errors import ProblemsError, UsageError
from cipipe.stages.settings import Reference
from support.configurations import (
    DAGS,
    DEFAULT,
    HEAD,
    IAC,
    IMAGE,
    WHOLE,
    command,
    line_of,
    load,
    only,
    problems,
)


def test_a_valid_one() -> None:
    made = load(WHOLE)
    assert list(made.stages) == ["iac", "image", "dags", "default"]
    assert made.stages["image"].settings.repository == Reference(output="url")
    assert made.ledger.prefix == "ledger/{project}/{environment}/"
    assert made.expanded("{project}-{environment}-{account_id}-{region}-{x}", "dev") == (
        "shop-dev-111111111111-eu-central-1-{x}"
    )


def test_stages_stand_in_the_order_in_which_they_run() -> None:
    assert list(load(HEAD + DEFAULT + DAGS + IMAGE + IAC).stages) == [
        "default",
        "iac",
        "image",
        "dags",
    ]


def test_an_unknown_environment_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        load(WHOLE).environment("def")
    assert caught.value.hint == "Perhaps you meant 'dev'."


@pytest.mark.parametrize(
    ("old", "new", "path", "id"),
    [
        ('name = "shop"', 'nam = "shop"', "project.nam", "config-unknown-key"),
        ('name = "shop"', 'name = "shop"\nx = 1', "project.x", "config-unknown-key"),
        ("[project]", "[ledger]\nbuckte = 'b'\n[project]", "ledger.buckte", "config-unknown-key"),
        ('name = "shop"', "name = 1", "project.name", "config-wrong-type"),
        ('name = "shop"\n', "", "project.name", "config-missing-key"),
        (
            'default_environment = "dev"',
            'default_environment = "de"',
            "project.default_environment",
            "config-dangling-name",
        ),
        (
            'account_id = "111111111111"',
            "account_id = 111111111111",
            "environments.dev.account_id",
            "config-wrong-type",
        ),
        ('"111111111111"', '"1111"', "environments.dev.account_id", "config-bad-account"),
        ('"eu-central-1"', '"eu-central"', "environments.dev.region", "config-bad-region"),
        (
            "arn:aws:iam::111111111111:role/deploy",
            "deploy",
            "environments.dev.role_arn",
            "config-bad-role",
        ),
        ("arn:aws:iam::1", "arn:aws:iam::2", "environments.dev.role_arn", "config-bad-role"),
        (
            'region = "eu-central-1"',
            'region = "eu-central-1"\nreview = "warn"',
            "environments.dev.review",
            "config-review-without-role",
        ),
        (
            'region = "eu-central-1"',
            'region = "eu-central-1"\nreview = "maybe"',
            "environments.dev.review",
            "config-wrong-type",
        ),
        (
            "[stages.iac]",
            "[environments.dev.deploy_from]\nbranch = ['main']\n[stages.iac]",
            "environments.dev.deploy_from.branch",
            "config-unknown-key",
        ),
        (
            "[stages.iac]",
            "[oidc]\ngitlap = {}\n[stages.iac]",
            "oidc.gitlap",
            "config-dangling-name",
        ),
        (
            "[stages.iac]",
            "[oidc]\ngitlab = { audiense = 'x' }\n[stages.iac]",
            "oidc.gitlab.audiense",
            "config-unknown-key",
        ),
        (
            "[stages.iac]",
            "[ledger]\nbucket = '{acount_id}'\n[stages.iac]",
            "ledger.bucket",
            "config-dangling-name",
        ),
        ('kind = "image"', 'kind = "imgae"', "stages.image.kind", "config-unknown-kind"),
        ('kind = "image"', "kind = 1", "stages.image.kind", "config-unknown-kind"),
        ('kind = "image"\n', "", "stages.image.kind", "config-missing-key"),
        ('context = "dbt"', 'contxt = "dbt"', "stages.image.contxt", "config-unknown-key"),
        ('context = "dbt"', "context = ['dbt']", "stages.image.context", "config-wrong-type"),
        ('context = "dbt"\n', "", "stages.image.context", "config-missing-key"),
        ('"terraform/**"', '"/terraform"', "stages.iac.paths[0]", "config-bad-pattern"),
        ('"terraform/**"', '"a", "b**"', "stages.iac.paths[1]", "config-bad-pattern"),
        ('"terraform/**"', '"a", 2', "stages.iac.paths[1]", "config-wrong-type"),
        ('paths = ["terraform/**"]', 'paths = ["!x"]', "stages.iac.paths", "config-missing-key"),
        (
            'paths = ["terraform/**"]',
            'paths = "terraform"',
            "stages.iac.paths",
            "config-wrong-type",
        ),
        ('bucket = "b", key', "key", "stages.iac.backend", "config-missing-key"),
        (
            'needs = ["iac", "image"]',
            'needs = ["iac", "imag"]',
            "stages.dags.needs[1]",
            "config-dangling-name",
        ),
        (
            '{ output = "url" }',
            '{ outptu = "url" }',
            "stages.image.repository.outptu",
            "config-unknown-key",
        ),
        (
            '{ output = "url" }',
            "{ output = 1 }",
            "stages.image.repository.output",
            "config-wrong-type",
        ),
        ('{ output = "url" }', "{}", "stages.image.repository", "config-bad-reference"),
        (
            '{ output = "url" }',
            '{ output = "a", env = "B" }',
            "stages.image.repository",
            "config-bad-reference",
        ),
        (
            '{ output = "url" }',
            '{ fingerprint = "iac", default = "b" }',
            "stages.image.repository",
            "config-bad-reference",
        ),
        (
            '{ output = "url" }',
            '{ fingerprint = "dgas" }',
            "stages.image.repository.fingerprint",
            "config-dangling-name",
        ),
        ('when = "nothing-due"', 'when = "never"', "stages.default.when", "config-wrong-type"),
        ('run = [["true"]]', "run = [[]]", "stages.default.run[0]", "config-empty-command"),
        ('run = [["true"]]', 'run = ["true"]', "stages.default.run[0]", "config-wrong-type"),
        ("[stages.default]", '[stages."a b"]', "stages.a b", "config-bad-name"),
        ("[environments.dev]", '[environments."../x"]', "environments.../x", "config-bad-name"),
    ],
)
def test_one_thing_is_wrong(old: str, new: str, path: str, id: str) -> None:
    assert old in WHOLE
    found = problems(WHOLE.replace(old, new, 1))
    assert found[path][1] == id, found
    assert found[path][0].startswith("cipipe.toml:")


def test_an_output_without_a_stage_behind_it_that_gives_outputs() -> None:
    assert only(HEAD + IMAGE.replace('needs = ["iac"]', "")) == (
        "config-bad-reference",
        "Put the name of the terraform or image stage that gives it into `needs`.",
    )


def test_cycles() -> None:
    text = HEAD + command("a", needs='["b"]') + command("b", needs='["a"]')
    assert {found[1] for found in problems(text).values()} == {"config-cycle"}
    text = (
        HEAD
        + command("a", env='{ X = { fingerprint = "b" } }')
        + command("b", env='{ X = { fingerprint = "a" } }')
    )
    assert list(problems(text)) in (["stages.a.fingerprint"], ["stages.b.fingerprint"])
    own = HEAD.replace("role_arn", 'after = "dev"\nrole_arn') + IAC
    assert problems(own)["environments.dev.after"][1] == "config-cycle"


def test_a_stage_that_needs_itself() -> None:
    assert problems(HEAD + command("a", needs='["a"]'))["stages.a.needs"][1] == "config-cycle"


def test_everything_in_one_go() -> None:
    """An unknown key, a wrong type, a dangling name, a cycle, a bad pattern and a bad reference,
    in separate stages.
    """
    text = (
        HEAD.replace('name = "shop"', 'name = "shop"\nnmae = "x"')
        + command("wrong", env="3")
        + command("dangling", needs='["wrogn"]')
        + command("one", needs='["other"]')
        + command("other", needs='["one"]')
        + command("pattern", paths='["/x"]')
        + command("reference", env='{ X = { output = "o" } }')
    )
    found = {path: (place, kind) for path, (place, kind, _) in problems(text).items()}
    needs = line_of(text, 'needs = ["wrogn"]')
    assert found == {
        "project.nmae": (line_of(text, "nmae"), "config-unknown-key"),
        "stages.wrong.env": (line_of(text, "env = 3"), "config-wrong-type"),
        "stages.dangling.needs[0]": (needs, "config-dangling-name"),
        "stages.one.needs": (line_of(text, 'needs = ["other"]'), "config-cycle"),
        "stages.pattern.paths[0]": (line_of(text, 'paths = ["/x"]'), "config-bad-pattern"),
        "stages.reference.env.X": (line_of(text, "env = { X = {"), "config-bad-reference"),
    }


def test_what_is_wrong_in_a_table_hides_nothing_else_in_it() -> None:
    text = HEAD + command("a", env="3", paths='["/x"]')
    text += '\n[environments.next]\naccount_id = 1\nafter = "dve"\n'
    found = {path: kind for path, (_, kind, _) in problems(text).items()}
    assert found["stages.a.env"] == "config-wrong-type"
    assert found["stages.a.paths[0]"] == "config-bad-pattern"
    assert found["environments.next.account_id"] == "config-wrong-type"
    assert found["environments.next.after"] == "config-dangling-name"


def test_a_word_that_is_not_allowed_comes_with_those_that_are() -> None:
    for word, hint in (
        ("alwys", "Perhaps you meant 'always'."),
        ("x", "One of due, nothing-due, always"),
    ):
        with pytest.raises(ProblemsError) as caught:
            load(HEAD + command("a") + f'when = "{word}"\n')
        (problem,) = caught.value.problems
        assert (problem.message, problem.hint) == (f"{word!r} is not allowed here", hint)


def test_every_wrong_item_of_a_list() -> None:
    assert set(problems(HEAD + command("a", paths='[1, "ok/**", 2]'))) == {
        "stages.a.paths[0]",
        "stages.a.paths[2]",
    }


def test_a_stage_that_is_wrong_itself_is_not_dangling_where_it_is_named() -> None:
    text = WHOLE.replace('context = "dbt"', "context = 1")
    assert set(problems(text)) == {"stages.image.context"}


def test_a_suggestion_comes_with_an_unknown_key() -> None:
    assert (
        only(WHOLE.replace('needs = ["iac"]', 'neds = ["iac"]'))[1] == "Perhaps you meant 'needs'."
    )


@pytest.mark.parametrize(
    "text",
    [
        b"[project",
        b"a = 1\na = 2",
        b"\xff\xfe",
        b"\x00",
        b"x = " + b"[" * 100_000,
        b"x = " + b"9" * 5_000,
        b"\xef\xbb\xbf[project]",
        b"x = 2026-13-45",
    ],
    ids=["open", "twice", "utf-16", "nul", "deep", "long number", "byte-order mark", "date"],
)
def test_not_toml(text: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(text)
    assert caught.value.id == "config-not-toml"
    assert caught.value.exit_status == 2
    assert (caught.value.where or "").startswith("cipipe.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "project = 1",
        "stages = []",
        "environments = 3\nstages = 4",
        "[stages]\na = 1",
        "[stages.a]\nkind = []",
        "[environments]\ndev = 1979-05-27",
        "[project]\nname = nan",
        "[stages.a]\nkind = 'command'\nrun = {}",
    ],
)
def test_toml_of_a_wholly_other_shape(text: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        load(text)
    assert all(problem.where for problem in caught.value.problems)
