"""The changes of DAGs as Markdown, with names and contents that anybody may have written."""

from markdown_it import MarkdownIt

from cipipe.report import dag_changes
from cipipe.stages.dags.diff import FileChange
from cipipe.stages.dags.markers.patch import Pending

SUMMARY = {"added": 0, "changed": 1, "removed": 0, "unchanged": 3}
CHANGE = FileChange("dags/a.py", "changed", "--- a\n+++ b\n-CLUSTER = 'x'\n+CLUSTER = 'y'\n")


def test_a_summary_and_folded_diffs() -> None:
    pending = Pending(file="dags/a.py", line=1, name="ARN", output="arn", type="string")
    text = dag_changes.markdown(
        [CHANGE], where="s3://b/dags/", summary=SUMMARY, after_apply=[pending, pending]
    )
    assert text == (
        "### DAGs: `s3://b/dags/`\n\n"
        "**0 added, 1 changed, 0 removed, 3 unchanged**\n\n"
        "<details><summary>Known after apply (1)</summary>\n\n```text\narn: string\n```\n\n"
        "</details>\n\n"
        "<details><summary>dags&#47;a&#46;py: changed</summary>\n\n"
        "```diff\n--- a\n+++ b\n-CLUSTER = 'x'\n+CLUSTER = 'y'\n```\n\n</details>\n"
    )


def test_a_new_file_without_a_diff_is_named() -> None:
    text = dag_changes.markdown([FileChange("k", "added", "")], where="w", summary={"added": 1})
    assert text.endswith("<details><summary>k: added</summary>\n\n</details>\n")


def test_hostile_names_and_contents_stay_text() -> None:
    hostile = FileChange(
        "dags/</summary><b>@all.py",
        "added",
        "+```\n+/close\n+<img src=x>\n+\x1b[2J\u202e\n+~~~~\n+\t@all\n",
    )
    text = dag_changes.markdown([hostile], where="s3://`b`|", summary={"added": 1})
    tokens = MarkdownIt().parse(text)
    blocks = [token.content for token in tokens if token.type == "fence"]
    assert len(blocks) == 1
    assert "+<img src=x>" in blocks[0]
    outside = "".join(token.content for token in tokens if token.type != "fence")
    assert "<b>" not in outside
    assert "@all" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_it_fits_into_a_comment() -> None:
    changes = [FileChange(f"dags/{n}.py", "added", "+x\n" * 400) for n in range(100)]
    for limit in (60_000, 10_000, 2_000, 200):
        text = dag_changes.markdown(changes, where="w", summary=SUMMARY, limit=limit)
        assert len(text) <= limit
        assert "Cut to fit" in text
    one = dag_changes.markdown([CHANGE], where="w", summary=SUMMARY)
    assert "Cut to fit" not in one
