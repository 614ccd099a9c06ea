"""A comparison in a pull request: summary first, and no foreign text that links, mentions or draws."""

from __future__ import annotations

import re

import pytest
from comparisons import change, group, item, side, told
from hypothesis import given
from hypothesis import strategies as st

from assay.pages.markdown import MAX_ROWS, code, markdown, prose
from assay.spec.changes import Area, Effect, State

SPANS = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def sample(foreign: str = "name"):
    changes = (change(f"layer.0.{foreign}", State.CHANGED, 0.1), change("head.weight", State.ADDED))
    items = (
        item(Area.CONFIG, f"config.json: {foreign}", foreign, foreign),
        item(Area.CODE, foreign, text=f"--- a\n+++ b\n-{foreign}\n+{foreign}"),
        item(Area.METRICS, "auc", 0.9, 0.95, effect=Effect.NOTE, why=foreign),
    )
    return told(side(f"./{foreign}"), side("./new"), changes, items, groups=(group(f"layer.{foreign}", 0.1),))


def outside_code(text: str) -> str:
    """Markdown without fenced blocks and code spans: what GitHub reads for links, mentions and HTML."""
    return SPANS.sub("", re.sub(r"^(`{3,})diff\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE))


def test_summary_and_decision_come_first_and_the_rest_is_folded() -> None:
    found = sample()
    lines = [line for line in markdown(found).split("\n") if line]

    assert lines[0] == "### Model diff: `./name` → `./new`"
    assert lines[1].startswith(found.summary[0])
    assert lines[2].startswith(f"**Drop-in replacement: {found.drop_in.answer.value}** (")
    assert markdown(found).count("<details>") == markdown(found).count("</details>") == 4


@pytest.mark.parametrize(
    "foreign",
    [
        "<img src=x>", "<!-- x", "</details>", "@everyone", "https://evil.example/x", "www.evil.example", "[a](b)",
        "![a](b)", "**bold**", "a|b", "`tick", "``two``", "#123", "someone/repo#1", "$x$", "\nnew line\n# heading",
    ],
)  # fmt: skip
def test_foreign_text_never_means_anything(foreign: str) -> None:
    text = markdown(sample(foreign))
    plain = outside_code(text)

    tags = set(re.findall(r"<[^>\n]*>", plain))
    assert tags <= {"<details>", "</details>", "<summary>", "</summary>", "<details><summary>"}
    assert not re.search(r"[@#]\w", plain)
    assert not re.search(r"(?i)https?://|www\.\w", plain)
    assert not re.search(r"(?<!\\)!?\[[^\]]*(?<!\\)\]\(", plain)
    assert "\n# heading" not in plain


@given(st.text(alphabet="`|\\*_[]()<>@#!~$a\n ", max_size=40))
def test_a_code_span_holds_its_text_whatever_it_is(text: str) -> None:
    span = code(text)
    if not span:
        return
    ticks = re.match("`+", span)[0]
    inner = span[len(ticks) : -len(ticks)]
    assert span.endswith(ticks)
    assert len(ticks) not in {len(run) for run in re.findall("`+", inner)}
    assert "\n" not in span
    assert not re.search(r"(?<!\\)\|", inner.replace("\\|", ""))


@given(st.text(alphabet="`*_[]<>@#!~|$&\\a1 ", max_size=40))
def test_prose_leaves_no_character_that_markdown_reads(text: str) -> None:
    bare = re.sub(r"\\[\\`*_{}\[\]#!|~$^]|&(lt|gt|amp);", "", prose(text))

    assert not set(bare) & set("`*_[]<>!~|$\\")
    assert not re.search(r"[@#]\w", bare)


def test_long_tables_are_cut_and_say_so() -> None:
    changes = tuple(change(f"t{at}", State.CHANGED, 0.1) for at in range(MAX_ROWS + 5))
    text = markdown(told(side(), side(), changes))

    assert text.count("| changed |") == MAX_ROWS
    assert "\n\nand 5 more" in text
    assert len(text) < 65_536
