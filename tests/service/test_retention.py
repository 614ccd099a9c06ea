"""Rules over a real registry: what they go by is what was said, and what they give up becomes garbage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_faults import damage

from assay.errors import InvalidInput, StorageError
from assay.policy.retention import Best, Rule
from assay.service import evaluations, removing, retention, verify
from assay.service.publish import Base, Claims
from assay.service.registry import Registry
from assay.spec.records import EventKind
from assay.wiring import upkeep

NOW = datetime.now(UTC)


@pytest.fixture
def five(push, registry: Registry, model: Path):
    """Five versions; the third is the best by what was said at push, the second on the holdout set."""
    made = []
    for number, auc in enumerate((0.7, 0.8, 0.95, 0.9, 0.85), 1):
        (model / "settings.json").write_text(f'{{"number": {number}}}')
        made.append(push(model, claims=Claims(metrics={"auc": auc})).version)
    evaluations.give(registry, made[1], {"auc": 0.99}, dataset="holdout")
    evaluations.give(registry, made[3], {"auc": 0.98}, dataset="holdout")
    return made


def kept(registry: Registry, *rules: Rule) -> list[int]:
    return sorted(one.version.number for one in retention.rulings(registry, rules, now=NOW) if one.keep)


def test_metrics_of_pushes_and_evaluations_decide(five, registry: Registry) -> None:
    assert kept(registry, Rule(best=(Best("auc"),))) == [2, 3]
    assert kept(registry, Rule(best=(Best("auc", lower=True),))) == [1, 4]
    assert kept(registry, Rule(last=1)) == [5]
    assert kept(registry, Rule(younger=timedelta(days=1))) == [1, 2, 3, 4, 5]


def test_what_no_rule_keeps_is_removed_on_record_and_its_bytes_come_back(five, registry: Registry) -> None:
    registry.catalog.move_alias("team/model", "champion", 1, expect=None, actor="ada")
    before = sum(found.size for found in registry.blobs.inventory())
    rules = (Rule(last=1, best=(Best("auc"),)),)
    dry = upkeep.collect(registry, rules, grace=timedelta())
    assert {one.version.number for one in dry.rulings if not one.keep} == {4}
    assert not any(version.gone for version in registry.catalog.versions("team/model"))

    done = upkeep.collect(registry, rules, grace=timedelta(), free=True)

    assert done.freed == dry.freed > 0
    assert sum(found.size for found in registry.blobs.inventory()) == before - done.freed
    removed = registry.catalog.version("team/model", 4)
    assert removed is not None
    assert removed.removed == "retention: kept are: the last 1, highest auc"
    assert [event.data["number"] for event in registry.catalog.events(kinds=[EventKind.REMOVED])] == [4]
    for version in registry.catalog.versions("team/model"):
        assert version.gone or verify.verify(registry, version).ok
    again = upkeep.collect(registry, rules, grace=timedelta(), free=True)
    assert (again.freed, [one for one in again.rulings if not one.keep]) == (0, [])


def test_the_base_of_a_kept_version_is_kept(push, registry: Registry, model: Path) -> None:
    push(model)
    for number in (2, 3):
        (model / "settings.json").write_text(str(number))
        push(model, claims=Claims(bases=(Base("team/model:1"),) if number == 3 else ()))

    assert kept(registry, Rule(last=1)) == [1, 3]
    assert kept(registry, Rule(last=1, bases=False)) == [3]


def test_what_was_pinned_or_removed_since_the_rules_were_asked_is_told(five, registry: Registry) -> None:
    found = retention.rulings(registry, (Rule(last=1),), now=NOW)
    removing.pin(registry, five[0], reason="late")
    removing.remove(registry, five[1], reason="by hand")

    came_true = retention.apply(registry, found)

    assert {one.version.number for one in came_true if one.keep} == {1, 5}
    assert "pinned (late)" in next(one for one in came_true if one.version.number == 1).because[0]
    assert {version.number for version in registry.catalog.versions("team/model") if not version.gone} == {1, 5}
    assert registry.catalog.version("team/model", 2).removed == "by hand"


def test_a_version_whose_metrics_are_damaged_is_kept(five, registry: Registry) -> None:
    (statement,) = registry.statements(five[3].manifest, "metrics")
    damage(registry, statement.document())

    assert kept(registry, Rule(best=(Best("auc"),))) == [2, 3, 4]


def test_rules_are_read_from_the_home_and_a_mistyped_one_removes_nothing(five, registry: Registry, home: Path) -> None:
    assert upkeep.rules_of(registry) == ()
    (home / "retention.toml").write_text("[[rule]]\nkeep_last = 2\n")
    assert kept(registry, *upkeep.rules_of(registry)) == [4, 5]
    (home / "retention.toml").write_text("[[rule]]\nkeep_lats = 2\n")
    with pytest.raises(InvalidInput):
        upkeep.rules_of(registry)
    (home / "retention.toml").unlink()
    (home / "retention.toml").mkdir()
    with pytest.raises(StorageError):
        upkeep.rules_of(registry)
