"""Ways round the gates of a promotion that are shut, and words that count as they were meant."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.errors import AssayError, Conflict, InvalidInput, Refused
from assay.service import approvals, evaluations, promote, transfer, yanking
from assay.service.gate import Guard
from assay.service.promote import Request
from assay.service.registry import Registry
from assay.settings import Settings, read_settings
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.spec.statement import Statement
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry


@pytest.fixture
def add(push, tmp_path: Path) -> Callable[[int], Version]:
    """``add(seed)``: a version of ``m``."""

    def do(seed: int) -> Version:
        file = tmp_path / f"settings-{seed}.json"
        file.write_text(json.dumps({"threshold": seed}))
        return push(file, "m").version

    return do


def ruled(registry: Registry, lines: str) -> Guard:
    settings = Settings(Path(registry.place), registry.actor)
    (settings.home / "promotion.toml").write_text(f"[[promotion]]\nalias = 'champion'\n{lines}\n")
    return guard_of(settings)


def promoted(registry: Registry, version: Version, guard: Guard) -> bool:
    try:
        promote.carry_out(registry, promote.plan(registry, version, "champion", guard=guard, request=Request()))
    except Refused:
        return False
    return True


def neither_file(path: Path, kind: str) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "link to nothing":
            path.symlink_to("/nowhere/at/all")
        case "link to itself":
            path.symlink_to(path.name)
        case "pipe":
            os.mkfifo(path)


KINDS = ["folder", "link to nothing", "link to itself", "pipe"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["promotion.toml", "policy.toml"])
def test_a_file_of_rules_that_cannot_be_read_is_not_no_rules(registry: Registry, add, file: str, kind: str) -> None:
    version = add(1)
    settings = Settings(Path(registry.place), registry.actor)
    neither_file(settings.home / file, kind)

    with pytest.raises(InvalidInput) as caught:
        promoted(registry, version, guard_of(settings))
    assert caught.value.code == {"promotion.toml": "bad-promotion", "policy.toml": "bad-policy"}[file]
    assert file in caught.value.message
    assert registry.catalog.alias("m", "champion") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_file_that_cannot_be_read_is_not_no_project(tmp_path: Path, kind: str) -> None:
    inner = tmp_path / "project" / "deep"
    inner.mkdir(parents=True)
    neither_file(inner.parent / "assay.toml", kind)

    with pytest.raises(InvalidInput) as caught:
        read_settings(environ={}, folder=inner)
    assert caught.value.code == "bad-settings"


def test_rules_nested_too_deep_to_read_move_nothing(registry: Registry, add) -> None:
    version, guard = add(1), ruled(registry, "approvals = 1\nx = " + "[" * 5000 + "]" * 5000)

    with pytest.raises(InvalidInput) as caught:
        promoted(registry, version, guard)
    assert caught.value.code == "bad-promotion"


def test_a_version_that_was_yanked_after_the_gates_were_decided_gets_no_alias(registry: Registry, add) -> None:
    first, second = add(1), add(2)
    guard = ruled(registry, "max_size = '1 MB'")
    assert promoted(registry, first, guard)
    planned = promote.plan(registry, second, "champion", guard=guard)
    yanking.yank(registry, Reference.parse("m:2"), reason="trained on the test set")

    with pytest.raises(Conflict) as caught:
        promote.carry_out(registry, planned)
    assert caught.value.code == "version-yanked"
    now = registry.catalog.alias("m", "champion")
    assert now is not None
    assert now.number == 1


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ([(None, True), ("champion", False)], False),
        ([("champion", True), (None, False)], False),
        ([(None, True), ("beta", False)], True),
        ([("champion", True), ("beta", False)], True),
        ([("champion", True), (None, False), ("champion", True)], True),
        ([("champion", False), (None, True)], True),
        ([(None, True), ("champion", False), (None, True)], True),
    ],
)
def test_of_words_for_one_alias_and_for_all_the_latest_counts(
    registry: Registry, add, words: list, holds: bool
) -> None:
    version, guard = add(1), ruled(registry, "approvals = 1")
    kim = replace(registry, actor="kim")

    for alias, approves in words:
        approvals.approve(kim, version, alias=alias, withdraw=not approves)

    assert promoted(registry, version, guard) is holds


def test_an_approval_that_says_nothing_new_is_not_kept(registry: Registry, add) -> None:
    version = add(1)
    kim = replace(registry, actor="kim")

    assert not approvals.approve(kim, version, withdraw=True).new
    assert approvals.approve(kim, version).new
    assert not approvals.approve(kim, version, alias="champion").new
    assert approvals.approve(kim, version, alias="champion", withdraw=True).new
    assert not approvals.approve(kim, version, alias="champion", withdraw=True).new
    assert approvals.approve(kim, version, withdraw=True).new
    assert not approvals.approve(kim, version, withdraw=True).new


def test_a_copied_rehearsal_is_as_old_as_it_says(registry: Registry, add) -> None:
    version = add(1)
    old = datetime.now(UTC) - timedelta(days=90)
    said = {"passed": True, "at": old.isoformat(timespec="microseconds").replace("+00:00", "Z")}
    registry.attach(
        Statement(version.manifest, "rehearsal", said, old.replace(microsecond=0)), registry.manifest(version)
    )

    assert not promoted(registry, version, ruled(registry, "rehearsed = true\nrehearsal_days = 30"))
    assert promoted(registry, version, ruled(registry, "rehearsed = true\nrehearsal_days = 120"))


def test_an_evaluation_that_says_tomorrow_is_not_the_latest_word_for_good(registry: Registry, add) -> None:
    version = add(1)
    said = {"metrics": {"auc": 0.99}, "dataset": "holdout", "at": "2099-01-01T00:00:00Z"}
    before = datetime.now(UTC).replace(microsecond=0)
    registry.attach(Statement(version.manifest, "evaluation", said, before), registry.manifest(version))
    guard = ruled(registry, "[[promotion.metrics]]\nname = 'auc'\ndataset = 'holdout'\nmin = 0.9")

    evaluations.give(registry, version, {"auc": 0.5}, dataset="holdout")

    assert not promoted(registry, version, guard)
    assert evaluations.recorded(registry, version)["auc", "holdout"].value == 0.5


def test_a_copy_keeps_which_number_is_the_latest(registry: Registry, push, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    version = push(file, "m").version
    manifest, pushed = registry.manifest(version), datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    registry.attach(Statement(version.manifest, "metrics", {"metrics": {"auc": 0.99}}, pushed), manifest)
    later = {"metrics": {"auc": 0.5}, "at": (pushed + timedelta(days=1)).isoformat()}
    registry.attach(Statement(version.manifest, "evaluation", later, pushed + timedelta(days=1)), manifest)
    other = open_registry(Settings(tmp_path / "other", "eve"), create=True)

    copied = transfer.bring(registry, version, other, "m").version

    for place, found in ((registry, version), (other, copied)):
        assert evaluations.recorded(place, found)["auc", None].value == 0.5
        assert not promoted(place, found, ruled(place, "[[promotion.metrics]]\nname = 'auc'\nmin = 0.9"))


def test_an_alias_that_differs_by_case_is_another_alias(registry: Registry, add) -> None:
    version, guard = add(1), ruled(registry, "approvals = 1")

    promote.carry_out(registry, promote.plan(registry, version, "Champion", guard=guard))

    assert registry.catalog.alias("m", "champion") is None
    assert not promoted(registry, version, guard)
    for odd in ("champion ", "champion\n", "1", "\N{CYRILLIC SMALL LETTER ES}hampion"):
        with pytest.raises(AssayError) as caught:
            promote.plan(registry, version, odd, guard=guard)
        assert caught.value.code == "invalid-alias"


def test_one_person_is_not_two_by_a_blank(tmp_path: Path) -> None:
    assert read_settings(environ={"ASSAY_ACTOR": " kim\t"}, folder=tmp_path).actor == "kim"
    assert read_settings(environ={"ASSAY_ACTOR": "  "}, folder=tmp_path).actor.strip()
    for odd in ("kim\x1b[8m", "kim\nada", "k" * 201):
        with pytest.raises(InvalidInput) as caught:
            read_settings(environ={"ASSAY_ACTOR": odd}, folder=tmp_path)
        assert caught.value.code == "bad-settings"
