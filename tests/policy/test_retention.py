"""Retention rules: what any of them keeps is kept, in doubt too; and a mistyped rule is an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.policy.retention import Best, Facts, Rule, decide, duration, read_rules, written
from assay.spec.digest import Digest
from assay.spec.records import Version

TODAY = datetime(2027, 1, 1, tzinfo=UTC)


def version(number: int, name: str = "m", *, days: int = 100, **marks: str) -> Version:
    created = TODAY - timedelta(days=days)
    return Version(name, number, Digest.of(f"{name}{number}".encode()), 1, 1, created, "ada", **marks)


def facts(number: int, **options) -> Facts:
    marks = {key: options.pop(key) for key in ("name", "days", "yanked", "pinned") if key in options}
    return Facts(version(number, **marks), **options)


def kept(found: list[Facts], *rules: Rule) -> dict[int, tuple[str, ...]]:
    return {one.version.number: one.because for one in decide(found, rules, now=TODAY) if one.keep}


LINE = [facts(number, days=10 * (6 - number)) for number in range(1, 6)]


def test_without_rules_nothing_is_decided() -> None:
    assert decide(LINE, (), now=TODAY) == []


def test_a_model_that_no_rule_is_about_is_left_alone() -> None:
    found = decide([*LINE, facts(1, name="other")], [Rule(models=("other*",), last=1)], now=TODAY)

    assert [one.version.reference for one in found] == ["other:1"]


def test_the_last_ones_are_kept_and_yanked_ones_do_not_count() -> None:
    line = [facts(1), facts(2), facts(3, yanked="wrong labels"), facts(4)]

    assert kept(line, Rule(last=2)) == {4: ("among the last 2",), 2: ("among the last 2",)}


def test_the_young_are_kept_to_the_very_moment() -> None:
    assert sorted(kept(LINE, Rule(younger=timedelta(days=20)))) == [4, 5]
    assert sorted(kept(LINE, Rule(younger=timedelta(days=19)))) == [5]


def test_what_an_alias_or_a_pin_holds_is_kept_whatever_the_rules() -> None:
    line = [facts(1, aliases=("champion", "old")), facts(2, pinned="audit"), facts(3), facts(4)]

    assert kept(line, Rule(last=1)) == {
        1: ("alias champion", "alias old"),
        2: ("pinned: audit",),
        4: ("among the last 1",),
    }
    assert sorted(kept(line, Rule(aliased=True))) == [1, 2]


def test_the_best_by_a_metric_is_kept_on_each_dataset_and_ties_are_all_kept() -> None:
    line = [
        facts(1, measured={("auc", None): 0.9, ("auc", "holdout"): 0.5, ("loss", None): 0.1}),
        facts(2, measured={("auc", None): 0.8, ("auc", "holdout"): 0.7, ("loss", None): 0.3}),
        facts(3, measured={("auc", None): 0.9, ("loss", None): 0.2}),
        facts(4, measured={("auc", None): 0.99}, yanked="leaky"),
        facts(5),
    ]

    assert kept(line, Rule(best=(Best("auc"),))) == {
        1: ("highest auc (0.9)",),
        2: ("highest auc on holdout (0.7)",),
        3: ("highest auc (0.9)",),
    }
    assert sorted(kept(line, Rule(best=(Best("loss"),)))) == [1]
    assert sorted(kept(line, Rule(best=(Best("loss", lower=False),)))) == [2]


def test_a_metric_that_no_version_has_keeps_all_of_them() -> None:
    found = kept(LINE, Rule(last=1, best=(Best("acu"),)))

    assert sorted(found) == [1, 2, 3, 4, 5]
    assert "no version has the metric 'acu': all are kept" in found[1]


def test_what_cannot_be_read_is_kept() -> None:
    assert kept([facts(1, unreadable="damaged"), facts(2)], Rule(last=1))[1] == (
        "what is said of it cannot be read: damaged",
    )


def test_bases_of_what_is_kept_are_kept_as_far_back_as_it_goes_unless_a_rule_says_not() -> None:
    line = [
        facts(1),
        facts(2, bases=frozenset({version(1).manifest})),
        facts(3, bases=frozenset({version(2).manifest, Digest.of(b"elsewhere")})),
        facts(4),
        facts(1, name="other", bases=frozenset({version(4).manifest})),
    ]

    assert kept(line, Rule(models=("m",), younger=timedelta(days=1))) == {4: ("base of other:1",)}
    assert sorted(kept([*line[:3], facts(5, bases=frozenset({version(3).manifest}))], Rule(last=1))) == [1, 2, 3, 5]
    assert sorted(kept(line, Rule(models=("m",), last=1, bases=False))) == [4]


@given(
    st.lists(
        st.builds(
            lambda days, alias, pinned, auc, base: (days, alias, pinned, auc, base),
            st.integers(0, 50), st.booleans(), st.booleans(), st.none() | st.integers(0, 3), st.none() | st.integers(1, 8),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(
        st.builds(
            Rule,
            last=st.integers(0, 3),
            younger=st.none() | st.integers(0, 40).map(lambda days: timedelta(days=days)),
            aliased=st.booleans(),
            best=st.sampled_from([(), (Best("auc"),)]),
            bases=st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
)  # fmt: skip
def test_one_rule_more_never_keeps_less_and_holders_are_always_kept(rows: list, rules: list[Rule]) -> None:
    line = [
        facts(
            number,
            days=days,
            aliases=("a",) if alias else (),
            measured={} if auc is None else {("auc", None): float(auc)},
            bases=frozenset() if base is None else frozenset({version(base).manifest}),
            **({"pinned": "p"} if pinned else {}),
        )
        for number, (days, alias, pinned, auc, base) in enumerate(rows, 1)
    ]

    every = set(kept(line, *rules))

    assert set(kept(line, *rules[:-1])) <= every
    assert {one.version.number for one in line if one.aliases or one.version.pinned} <= every
    assert {number for rule in rules for number in kept(line, rule)} <= every


def test_rules_are_read_from_toml() -> None:
    text = """
        [[rule]]
        keep_last = 5
        [[rule]]
        models = ["fraud/*", "churn"]
        keep_younger = "90d"
        keep_aliased = true
        keep_best = ["auc", "loss:lower", "f1:higher"]
        keep_bases = false
    """

    first, second = read_rules(text, name="retention.toml")

    assert first == Rule(last=5, where="retention.toml, rule 1")
    assert second == Rule(
        ("fraud/*", "churn"), 0, timedelta(days=90), True,
        (Best("auc"), Best("loss", lower=True), Best("f1", lower=False)), False, "retention.toml, rule 2",
    )  # fmt: skip
    assert second.about("fraud/eu/cards")
    assert not second.about("churn/eu")


@pytest.mark.parametrize(
    "text",
    [
        "keep_last = 5",
        "[[rule]]\nkeep_lats = 5",
        "[[rule]]\nkeep_last = '5'",
        "[[rule]]\nkeep_last = true",
        "[[rule]]\nkeep_last = -1",
        "[[rule]]\nkeep_last = 0",
        "[[rule]]",
        "[[rule]]\nmodels = ['a']",
        "[[rule]]\nmodels = 'a'\nkeep_last = 1",
        "[[rule]]\nkeep_younger = 90",
        "[[rule]]\nkeep_best = [':lower']",
        "[[rule]]\nkeep_aliased = 'yes'",
        "rule = 3",
        "[[rule",
    ],
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_rules(text, name="retention.toml")
    assert caught.value.code == "bad-retention"
    assert "retention.toml" in caught.value.message or "metric" in caught.value.message


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "1y", "٣d", "99999999d"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        duration(text)
    assert caught.value.code == "bad-duration"


@given(st.integers(0, 9999), st.sampled_from("smhdw"))
def test_a_time_span_is_what_it_says(count: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]

    assert duration(f"{count}{unit}").total_seconds() == count * seconds
    assert written(duration(f"{count}{unit}"))
