"""The page of a comparison: whole in one file, deaf to foreign text, readable without a script."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from comparisons import change, group, item, side, told
from hypothesis import given
from hypothesis import strategies as st

from assay.pages.drawing import HEIGHT, outline
from assay.pages.html import BEGINNING, MAX_LINES, MAX_ROWS, page
from assay.pages.views import cell
from assay.spec.changes import Area, Comparison, Effect, Histogram, ItemKind, State
from assay.spec.finding import Finding, Severity

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)> javascript:alert(3) \u202e\x1b[2J'


class Parsed(HTMLParser):
    """Elements, attributes and text of a document; what was left open."""

    VOID = {"meta", "rect", "path", "input", "!doctype"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def comparison(foreign: str = "name") -> Comparison:
    changes = (
        change(f"encoder.layer.0.{foreign}", State.CHANGED, 0.1),
        change("classifier.weight", State.ADDED),
        change("embed.weight"),
    )
    items = (
        item(Area.CONFIG, f"config.json: {foreign}", foreign, [foreign]),
        item(Area.TOKENIZER, foreign, text=f"--- old\n+++ new\n-{foreign}\n+{foreign}"),
        item(Area.METADATA, foreign, None, foreign, kind=ItemKind.ADDED, effect=Effect.NOTE, why=foreign, text=foreign),
    )
    return told(
        side(f"./{foreign}", architecture=foreign, framework=foreign),
        side(f"./new {foreign}", architecture=foreign, framework_version=foreign),
        changes,
        items,
        groups=(group(f"encoder.{foreign}.0", 0.1), group("embed"), group("classifier", added=1)),
        histograms=(Histogram(f"encoder.{foreign}", -1.0, 1.0, (1, 4, 1), (0, 4, 2)),),
        findings=(Finding("x", Severity.INCOMPLETE, foreign, foreign),),
    )


def test_the_page_is_one_file_that_asks_a_network_for_nothing() -> None:
    text = page(comparison())
    parsed = Parsed(text)

    assert text.startswith(BEGINNING)
    assert parsed.open == []
    assert "://" not in text
    assert not [attrs for _, attrs in parsed.tags if {"src", "href", "action", "style"} & set(attrs)]
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]


def test_the_security_policy_names_the_one_style_sheet_and_the_one_script() -> None:
    text = page(comparison())
    policy = next(attrs["content"] for tag, attrs in Parsed(text).tags if attrs.get("http-equiv"))

    assert policy.startswith("default-src 'none'; ")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


@pytest.mark.parametrize("foreign", [EVIL, "</style>", "</title>", "{{ 7 * 7 }}", "<!--", "]]>"])
def test_foreign_text_stays_text_everywhere(foreign: str) -> None:
    honest, hostile = Parsed(page(comparison())), Parsed(page(comparison(foreign)))

    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in honest.tags]
    assert [sorted(attrs) for _, attrs in hostile.tags] == [sorted(attrs) for _, attrs in honest.tags]
    text = "".join(hostile.texts)
    assert "49" not in text if foreign.startswith("{{") else True
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", page(comparison(foreign)))


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=60))
def test_no_foreign_text_changes_the_elements_of_the_page(foreign: str) -> None:
    kept = f"x{foreign}x"
    assert [tag for tag, _ in Parsed(page(comparison(kept))).tags] == [
        tag for tag, _ in Parsed(page(comparison())).tags
    ]


def test_summary_decision_and_reasons_come_first() -> None:
    found = comparison()
    text = "".join(Parsed(page(found)).texts)

    for sentence in found.summary[:-1]:
        assert sentence in text
    assert f"Drop-in replacement: {found.drop_in.answer.value}" in text
    assert text.index(found.summary[0]) < text.index("Layer by layer") < text.index("Tensors")


@pytest.mark.parametrize(
    ("states", "shade"),
    [
        ({"equal": 2}, "equal"),
        ({"added": 1}, "added"),
        ({"removed": 1}, "removed"),
        ({"changed": 1}, "other"),
        ({"reshaped": 1}, "other"),
        ({"changed": 1, "unreadable": 1}, "unknown"),
    ],
)
def test_a_group_without_a_distance_is_shaded_by_what_became_of_it(states: dict[str, int], shade: str) -> None:
    assert cell(group("g", **states)).shade == shade


@pytest.mark.parametrize(("relative", "shade"), [(0.001, "0"), (0.01, "1"), (0.05, "2"), (0.2, "3"), (7.0, "3")])
def test_shades_grow_with_the_relative_change(relative: float, shade: str) -> None:
    assert cell(group("g", relative)).shade == shade


def test_drawings_say_in_words_what_they_show() -> None:
    parsed = Parsed(page(comparison()))
    drawn = [attrs for tag, attrs in parsed.tags if tag == "svg"]

    assert drawn
    assert all(attrs.get("aria-hidden") == "true" or attrs.get("aria-label") for attrs in drawn)
    assert any(
        "Elements of encoder.name from -1 to 1: 6 before, 6 after" in (attrs.get("aria-label") or "") for attrs in drawn
    )


def test_the_search_field_is_hidden_until_the_script_runs() -> None:
    parsed = Parsed(page(comparison()))

    assert any(attrs.get("id") == "controls" and "hidden" in attrs for _, attrs in parsed.tags)


def test_long_tables_and_long_diffs_are_cut_and_say_so() -> None:
    changes = tuple(change(f"t{at}", State.CHANGED, 0.1) for at in range(MAX_ROWS + 7))
    diff = "--- a\n+++ b\n" + "\n".join(f"+{at}" for at in range(MAX_LINES + 10))
    text = page(told(side(), side(), changes, (item(Area.CODE, "m.py", text=diff),)))

    assert text.count('class="state st-changed"') == MAX_ROWS
    assert "and 7 more, which --json has" in text
    assert "… 12 more lines" in text


def test_a_change_beyond_measure_is_drawn_without_a_bar() -> None:
    found = told(side(), side(), (change("w", State.CHANGED, float("inf")),), groups=(group("w", float("inf")),))

    assert "moved by beyond measure" not in page(found)
    assert "was all zero" in page(found)


def test_an_equal_pair_has_a_page_without_empty_parts() -> None:
    text = page(told(side("./a"), side("./b"), equal_bytes=True))

    assert "same bytes" in text
    for part in ("Layer by layer", "Weights before and after", "Beside the weights", 'id="table"'):
        assert part not in text


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_an_outline_stays_in_its_frame_and_peaks_where_the_counts_do(counts: list[int]) -> None:
    path = outline(counts, max(counts))
    if not any(counts):
        assert path == ""
        return
    heights = [float(pair.split()[1]) for pair in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]
    assert all(0 <= height <= HEIGHT for height in heights)
    assert min(heights) == 0.0
