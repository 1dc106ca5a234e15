"""A plan as a comment: read with a Markdown parser, so that what a name could do to it shows."""

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import markdown
from cipipe.terminal import visible

HOSTILE = (
    b"`code`",
    b"``` fence",
    b"~~~",
    b"a|b",
    b"\\|",
    b"</details><script>alert(1)</script>",
    b"<img src=x onerror=alert(1)>",
    b"@everyone",
    b"/close",
    b"line\n/merge\n# title",
    b"[link](https://example.org)",
    b"![image](https://example.org/x.png)",
    b"https://example.org",
    b"caf\xe9",
    b"&amp;",
    "\u202egnp.sql".encode(),
    b"`",
    b" ",
    b"\\",
    b"$`x`$",
)


def stage(name: str = "dags", status: Status = Status.DUE, **changes: Any) -> StagePlan:
    given: dict[str, Any] = {
        "kind": "dags",
        "reason": Reason.CHANGED,
        "detail": "8 files changed since 1a2b3c4",
        "fingerprint": "f" * 64,
        "deployed_fingerprint": None,
        "paths": (b"dags/a.py",),
        "needs": (),
        "steps": ("upload to s3://{bucket}/dags/",),
        **changes,
    }
    return StagePlan(name=name, status=status, **given)


def plan(*stages: StagePlan, **changes: Any) -> Plan:
    given: dict[str, Any] = {"baseline": Baseline("ledger"), "mode": Mode.DEPLOY, **changes}
    return Plan(
        project="shop",
        environment="dev",
        provider="gitlab",
        commit="c" * 40,
        stages=stages,
        **given,
    )


def read(text: str) -> list[Token]:
    """Every token, those within a line included."""
    parser = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    return [inner for token in parser.parse(text) for inner in (token, *(token.children or ()))]


def of(tokens: list[Token], kind: str) -> list[str]:
    return [token.content for token in tokens if token.type == kind]


def test_a_plan() -> None:
    stages = (
        stage(
            "iac",
            paths=(b"terraform/main.tf", b"terraform/x"),
            steps=("terraform init", "terraform plan"),
        ),
        stage(
            "image",
            Status.CONDITIONAL,
            reason=Reason.UPSTREAM,
            detail="due if the outputs of iac change",
            paths=(),
        ),
        stage(
            "default",
            Status.UNCHANGED,
            reason=Reason.UNCHANGED,
            detail="runs when nothing else is due",
            paths=(),
            steps=(),
        ),
    )
    made = markdown.render(
        plan(*stages, mode=Mode.VERIFY, baseline=Baseline("revision", "e" * 40), warnings=("mind",))
    )
    assert made == (
        "### `shop` → `dev`\n"
        "\n"
        "Commit `ccccccc`, mode verify (read only), compared with commit eeeeeee. "
        "**1 due, 1 conditional, 1 unchanged.**\n"
        "\n"
        "**1 warning**\n"
        "\n"
        "```text\n"
        "mind\n"
        "```\n"
        "\n"
        "| stage | status | reason | why |\n"
        "|---|---|---|---|\n"
        "| `iac` | **due** | changed | 8 files changed since 1a2b3c4 |\n"
        "| `image` | **conditional** | upstream | due if the outputs of iac change |\n"
        "| `default` | unchanged | unchanged | runs when nothing else is due |\n"
        "\n"
        "<details><summary>iac: 2 paths, 2 steps</summary>\n"
        "\n"
        "```text\n"
        "terraform/main.tf\n"
        "terraform/x\n"
        "```\n"
        "\n"
        "```text\n"
        "terraform init\n"
        "terraform plan\n"
        "```\n"
        "\n"
        "</details>\n"
        "\n"
        "<details><summary>image: 1 step</summary>\n"
        "\n"
        "```text\n"
        "upload to s3://{bucket}/dags/\n"
        "```\n"
        "\n"
        "</details>\n"
    )


def test_hostile_names_stay_data() -> None:
    shown = [visible(name.decode(errors="backslashreplace")) for name in HOSTILE]
    tokens = read(
        markdown.render(plan(stage(paths=HOSTILE, steps=tuple(shown)), warnings=tuple(shown)))
    )
    assert [fence.splitlines() for fence in of(tokens, "fence")] == [shown, shown, shown]
    html = "".join(of(tokens, "html_block") + of(tokens, "html_inline"))
    assert html.split() == [
        "<details><summary>dags:",
        "20",
        "paths,",
        "20",
        "steps</summary>",
        "</details>",
    ]
    assert not of(tokens, "link_open") + of(tokens, "image") + of(tokens, "list_item_open")
    assert len(of(tokens, "heading_open")) == 1
    assert "@" not in "".join(of(tokens, "text"))


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != b" "])
def test_a_hostile_reason_stays_in_its_cell(name: bytes) -> None:
    shown = visible(name.decode(errors="backslashreplace"))
    tokens = read(markdown.render(plan(stage(detail=shown, paths=()), stage("other", paths=()))))
    assert len(of(tokens, "td_open")) == 8
    assert shown.replace("|", "\\x7c").strip() in [
        code.strip() for code in of(tokens, "code_inline")
    ]
    assert "".join(of(tokens, "html_inline")) == ""


def test_control_characters_are_escaped() -> None:
    made = markdown.render(
        plan(stage(paths=(b"\x1b]0;x\x07", b"a\rb"), steps=("x\x1b[31m",)), warnings=("\r\n## no",))
    )
    assert all(line.isprintable() for line in made.split("\n"))
    assert "\n## no" not in made


@pytest.mark.parametrize("count", [300, 5_000])
def test_many_paths_are_cut_below_the_limit(count: int) -> None:
    made = markdown.render(
        plan(
            *[
                stage(f"s{n}", paths=tuple(b"%d/%d.sql" % (n, i) for i in range(count)))
                for n in range(3)
            ]
        )
    )
    assert len(made) <= markdown.LIMIT < 65_536
    assert f"… and {count - 200} more" in made
    assert f"s1: {count} paths, 1 step" in made


@pytest.mark.parametrize(
    ("stages", "length", "said"),
    [
        (1, 4000, "… and 290 more"),
        (30, 4000, "… and 300 more"),
        (900, 40, "_Cut to fit"),
        (50, 2_000, "_Cut to fit"),
    ],
)
def test_a_plan_of_any_size_fits_and_says_what_was_left_out(
    stages: int, length: int, said: str
) -> None:
    paths = tuple(b"%03d" % n + b"x" * length for n in range(300))
    detail = "y" * length if stages > 30 else "changed"
    made = markdown.render(
        plan(*[stage(f"s{n}", paths=paths, detail=detail) for n in range(stages)])
    )
    assert len(made) <= markdown.LIMIT
    assert said in made
    tokens = read(made)
    assert len(of(tokens, "td_open")) % 4 == 0
    assert made.count("<details>") == made.count("</details>")
    assert all(fence.count("`") == 0 for fence in of(tokens, "fence"))
    if "_Cut" in said:
        assert re.search(r"\n\n_Cut [^\n]*_\n$", made)


def test_hundreds_of_warnings_are_cut() -> None:
    made = markdown.render(plan(stage(), warnings=tuple("w" * 200 for _ in range(1000))))
    assert len(made) <= markdown.LIMIT
    assert "| `dags` |" in made
    assert "_Cut" in made
