"""Bisect: the boundary that is found is really one, in as few tests as promised, whatever cannot be tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput, NotFound
from assay.service.bisect import Found, Limit, Outcome, Result, Span, Step, search, search_recorded, span
from assay.service.evaluations import give
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.records import EventKind, Version

GOOD, BAD, SKIP = Outcome.GOOD, Outcome.BAD, Outcome.SKIP
MARKS = {"g": GOOD, "b": BAD, "s": SKIP}


def version(number: int, *, removed: str | None = None) -> Version:
    digest = Digest.of(str(number).encode())
    return Version("m", number, digest, 1, 1, datetime(2026, 1, 31, tzinfo=UTC), "ada", removed=removed)


def knowing(outcomes: Sequence[Outcome], asked: list[int]) -> Callable[[Version], Result]:
    """A test that knows what every version is, and remembers about which it was asked."""

    def test(one: Version) -> Result:
        asked.append(one.number)
        return Result(outcomes[one.number], ran=True)

    return test


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Outcome], list[int]]:
    """Good versions, then bad ones (or the other way round), some of which cannot be tested or are gone."""
    before = draw(st.integers(1, 40))
    after = draw(st.integers(1, 40))
    old, new = draw(st.sampled_from([(GOOD, BAD), (BAD, GOOD)]))
    outcomes = [old] * before + [new] * after
    inner = range(1, len(outcomes) - 1)
    skipped = draw(st.sets(st.sampled_from(inner))) if inner else set()
    gone = draw(st.sets(st.sampled_from(inner), max_size=5)) if inner else set()
    for at in skipped:
        outcomes[at] = SKIP
    return outcomes, sorted(gone)


@given(histories())
def test_the_first_version_after_the_change_is_among_the_candidates_and_no_other_known_one(
    history: tuple[list[Outcome], list[int]],
) -> None:
    outcomes, gone = history
    line = tuple(version(at, removed="r" if at in gone else None) for at in range(len(outcomes)))
    asked: list[int] = []

    found = search(Span(line, outcomes[-1]), knowing(outcomes, asked))

    known = [SKIP if at in gone else outcome for at, outcome in enumerate(outcomes)]
    candidates = [one.number for one in found.candidates]
    last_old = max(at for at, outcome in enumerate(known) if outcome is outcomes[0])
    first_new = min(at for at, outcome in enumerate(known) if outcome is outcomes[-1])
    assert candidates == list(range(last_old + 1, first_new + 1))
    assert found.before.number == last_old
    assert (found.first is None) == (len(candidates) > 1)


@given(histories())
def test_no_version_is_tested_twice_and_skips_apart_no_more_than_halving_needs(
    history: tuple[list[Outcome], list[int]],
) -> None:
    outcomes, gone = history
    line = tuple(version(at, removed="r" if at in gone else None) for at in range(len(outcomes)))
    asked: list[int] = []

    found = search(Span(line, outcomes[-1]), knowing(outcomes, asked))

    skips = sum(outcomes[at] is SKIP for at in asked)
    testable = len(outcomes) - 2 - len(gone)
    assert len(set(asked)) == len(asked) == found.tests
    assert not set(asked) & {0, len(outcomes) - 1, *gone}
    assert len(asked) - skips <= testable.bit_length()  # ceil(log2(testable + 1))


@given(st.lists(st.sampled_from([GOOD, BAD]), max_size=40))
def test_also_among_versions_that_change_often_the_answer_is_a_change(outcomes: list[Outcome]) -> None:
    outcomes = [GOOD, *outcomes, BAD]
    asked: list[int] = []

    found = search(Span(tuple(version(at) for at in range(len(outcomes))), BAD), knowing(outcomes, asked))

    assert found.first is not None
    assert (outcomes[found.first.number - 1], outcomes[found.first.number]) == (GOOD, BAD)


@pytest.mark.parametrize("broken", range(2, 21))
def test_a_regression_among_twenty_versions_takes_at_most_five_tests(broken: int) -> None:
    outcomes = [BAD if number >= broken else GOOD for number in range(21)]
    asked: list[int] = []

    found = search(Span(tuple(version(number) for number in range(1, 21)), BAD), knowing(outcomes, asked))

    assert found.first == version(broken)
    assert len(asked) <= 5


@pytest.mark.parametrize(("outcomes", "end"), [("gbbbb", 0), ("ggggb", 4)])
def test_a_test_that_always_says_the_same_is_told_with_the_end_that_would_show_it(outcomes: str, end: int) -> None:
    line = tuple(version(at) for at in range(5))

    (note,) = search(Span(line, BAD), knowing([MARKS[mark] for mark in outcomes], [])).notes

    assert f"try the test on m:{end}, too" in note


def test_a_test_that_tells_both_is_trusted() -> None:
    line = tuple(version(at) for at in range(5))

    assert search(Span(line, BAD), knowing([GOOD, GOOD, SKIP, BAD, BAD], [])).notes == ()


def test_every_step_is_told_with_how_many_are_left() -> None:
    outcomes = [GOOD, GOOD, SKIP, BAD, BAD]
    heard: list[tuple[int, Outcome, int]] = []

    def told(step: Step, left: int) -> None:
        heard.append((step.version.number, step.tested.outcome, left))

    search(Span(tuple(version(at) for at in range(5)), BAD), knowing(outcomes, []), told=told)

    assert heard == [(2, SKIP, 2), (3, BAD, 1), (1, GOOD, 0)]


@pytest.fixture
def line(registry: Registry, push, tmp_path):
    """``line(values)``: a model ``m`` with one version per value; a number is recorded as auc, None is not."""

    def do(values: Sequence[float | None], metric: str = "auc") -> None:
        for at, value in enumerate(values):
            file = tmp_path / f"{at}.bin"
            file.write_bytes(bytes([at]))
            push(file, "m", claims=Claims(metrics={} if value is None else {metric: value}))

    return do


def recorded(registry: Registry, good: str, bad: str, metric: str = "auc", **options) -> Found:
    dataset = options.pop("dataset", None)
    return search_recorded(registry, span(registry, "m", good, bad), metric, dataset=dataset, limit=Limit(**options))


def test_the_ends_are_numbers_aliases_or_references_in_either_order(registry: Registry, line) -> None:
    line([0.9, 0.8, 0.7])
    registry.catalog.move_alias("m", "champion", 3, expect=None, actor="ada")

    down = span(registry, "m", "1", "champion")
    up = span(registry, "m", "m:3", "1")

    assert ([one.number for one in down.line], down.seeking) == ([1, 2, 3], BAD)
    assert (up.seeking, up.good.number, up.bad.number) == (GOOD, 3, 1)


@pytest.mark.parametrize(
    ("good", "bad", "error", "code"),
    [
        ("1", "1", InvalidInput, "same-version"),
        ("1", "9", NotFound, "version-not-found"),
        ("champion", "1", NotFound, "alias-not-found"),
        ("other:1", "1", InvalidInput, "invalid-reference"),
        ("", "1", InvalidInput, "invalid-alias"),
    ],
)
def test_ends_that_are_none_are_told(registry: Registry, line, good: str, bad: str, error: type, code: str) -> None:
    line([0.9, 0.8])

    with pytest.raises(error) as caught:
        span(registry, "m", good, bad)

    assert caught.value.code == code


def test_a_version_that_was_removed_can_be_an_end_and_is_skipped_between_them(registry: Registry, line) -> None:
    line([None] * 5)
    for number in (1, 3):
        registry.catalog.mark("m", number, EventKind.REMOVED, reason="spoilt", actor="ada")
    asked: list[int] = []

    found = search(span(registry, "m", "1", "5"), knowing([GOOD, GOOD, GOOD, GOOD, BAD, BAD], asked))

    assert [one.number for one in found.candidates] == [3, 4]
    assert [(step.version.number, step.tested.why) for step in found.skipped] == [(3, "removed: spoilt")]
    assert sorted(asked) == [2, 4]


@pytest.mark.parametrize(
    ("values", "options", "answer"),
    [
        ([0.9, 0.91, 0.79, 0.7], {}, [3]),
        ([0.9, 0.91, 0.8, 0.7], {"threshold": 0.75}, [4]),
        ([0.9, 0.91, 0.89, 0.85], {"drop": 0.02}, [4]),
        ([0.9, 0.89, 0.85, 0.7], {"drop": 0.005}, [2]),
        ([0.8, 0.7, 0.7, 0.6], {"drop": 0.1}, [4]),
        ([0.9, None, 0.7, 0.7], {}, [2, 3]),
        ([0.9, None, 0.89, 0.7], {}, [4]),
    ],
)
def test_a_recorded_metric_tells_the_first_bad_version(registry: Registry, line, values, options, answer) -> None:
    line(values)

    found = recorded(registry, "1", "4", **options)

    assert [one.number for one in found.candidates] == answer
    assert found.tests == 0


def test_of_a_loss_less_is_better_and_of_what_a_person_says(registry: Registry, line) -> None:
    line([0.2, 0.25, 0.6, 0.7], metric="loss")

    assert recorded(registry, "1", "4", "loss", threshold=0.5).first.number == 3
    assert recorded(registry, "1", "4", "loss", drop=0.01).first.number == 2


def test_a_person_may_say_that_less_is_better(registry: Registry, line) -> None:
    line([0.2, 0.25, 0.6, 0.7], metric="bpm")

    assert recorded(registry, "1", "4", "bpm", threshold=0.5, lower=frozenset({"bpm"})).first.number == 3
    assert recorded(registry, "1", "4", "bpm").first.number == 3  # as the ends say


def test_a_metric_that_changed_more_than_once_is_told(registry: Registry, line) -> None:
    line([0.9, 0.7, 0.91, 0.92, 0.7, 0.6])

    found = recorded(registry, "1", "6")

    assert found.first.number == 2
    assert [one.number for one in found.again] == [3, 4]
    assert "from m:5 on, every version that was measured is bad" in found.notes


def test_the_version_that_mended_a_metric_is_found(registry: Registry, line) -> None:
    line([0.6, 0.61, 0.9, 0.91])

    found = recorded(registry, "4", "1")

    assert (found.span.seeking, found.first.number) == (GOOD, 3)


def test_an_end_is_trusted_although_its_metric_says_otherwise_and_that_is_told(registry: Registry, line) -> None:
    line([0.7, 0.9, 0.6])

    found = recorded(registry, "1", "3", threshold=0.8)

    assert found.first.number == 3
    assert "m:1 is given as good, which is trusted, although auc is 0.7" in found.notes


def test_metrics_are_looked_for_on_the_dataset_that_is_named(registry: Registry, line) -> None:
    line([0.9, 0.9, 0.9])
    for number, value in enumerate([0.8, 0.3, 0.2], 1):
        give(registry, registry.catalog.version("m", number), {"auc": value}, dataset="holdout")

    assert recorded(registry, "1", "3", dataset="holdout").first.number == 2
    with pytest.raises(InvalidInput) as caught:
        recorded(registry, "1", "3")  # those given at push, which do not differ

    assert caught.value.code == "metric-undecided"


@pytest.mark.parametrize(
    ("metric", "options", "code"),
    [
        ("f1", {}, "metric-not-recorded"),
        ("auc", {"dataset": "other"}, "metric-not-recorded"),
        ("auc", {}, "metric-undecided"),
        ("auc", {"drop": 0.1}, "metric-undecided"),
    ],
)
def test_a_metric_that_does_not_tell_is_an_error(registry: Registry, line, metric: str, options, code: str) -> None:
    line([None, 0.9, 0.8])

    with pytest.raises(InvalidInput) as caught:
        recorded(registry, "1", "3", metric, **options)

    assert caught.value.code == code
