"""What an import makes of what is offered: versions, claims, aliases, and errors that do not stop the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from model_files import safetensors

from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.importers import Checksum, Files, Offered, Result, Unreadable
from assay.service.importing import Imported, Plan, alias_name, model_name, run_import
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.reference import check_name
from assay.spec.statement import Statement
from assay.wiring.auditing import guard_of


@dataclass
class Elsewhere:
    """A registry that offers what it is told to."""

    folder: Path
    rows: list[Offered | Unreadable] = field(default_factory=list)
    system: str = "elsewhere"
    place: str = "memory"

    def add(self, model: str, label: str, content: bytes, checksum: Checksum | None = None, **facts) -> Offered:
        file = self.folder / hashlib.sha256(content).hexdigest()
        file.write_bytes(content)

        @contextmanager
        def opening() -> Iterator[Files]:
            yield Files({"model.safetensors": file}, {"model.safetensors": checksum} if checksum else {})

        self.rows.append(Offered(model=model, label=label, open=opening, **facts))
        return self.rows[-1]

    def offered(self) -> Iterator[Offered | Unreadable]:
        yield from self.rows


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


@pytest.fixture
def bring(registry: Registry, elsewhere: Elsewhere):
    """``bring(**plan)``: import everything."""

    def do(**plan) -> list[Imported]:
        guard = guard_of(Settings(Path(registry.place), "tester"))
        return list(run_import(registry, elsewhere, guard=guard, plan=Plan(**plan)))

    return do


def weights(seed: int) -> bytes:
    return safetensors(weight=("F32", [1], bytes([seed, 0, 0, 0])))


def said(registry: Registry, imported: Imported, kind: str) -> list[Statement]:
    assert imported.version is not None
    return list(registry.statements(imported.version.manifest, kind))


def test_everything_that_is_offered_becomes_a_version_with_what_is_known_of_it(
    registry: Registry, elsewhere: Elsewhere, bring
) -> None:
    elsewhere.add(
        "Fraud Model", "7", weights(1), params={"depth": 3}, metrics={"auc": 0.9}, run="mlflow://r1", note="good",
        results=(Result({"f1": 0.5}, "holdout", "d1"),), tags={"team": "risk"}, actor="ada",
        created="2026-01-01T00:00:00Z", run_details={"git_commit": "abc"},
    )  # fmt: skip
    (imported,) = bring()
    assert imported.version is not None
    assert (imported.version.reference, imported.new, imported.error) == ("fraud-model:1", True, None)
    assert said(registry, imported, "params")[0].predicate == {"params": {"depth": 3}}
    assert said(registry, imported, "metrics")[0].predicate == {"metrics": {"auc": 0.9}}
    assert said(registry, imported, "run")[0].predicate["uri"] == "mlflow://r1"
    assert said(registry, imported, "note")[0].predicate == {"text": "good"}
    evaluation = said(registry, imported, "evaluation")[0].predicate
    assert (evaluation["metrics"], evaluation["dataset"]) == ({"f1": 0.5}, "holdout@d1")
    assert said(registry, imported, "origin")[0].predicate == {
        "system": "elsewhere",
        "place": "memory",
        "model": "Fraud Model",
        "version": "7",
        "created": "2026-01-01T00:00:00Z",
        "actor": "ada",
        "tags": {"team": "risk"},
        "run": {"git_commit": "abc"},
    }
    assert registry.catalog.version("fraud-model", 1) == imported.version


def test_a_second_import_changes_nothing_and_brings_only_what_is_new(
    registry: Registry, elsewhere: Elsewhere, bring
) -> None:
    elsewhere.add("m", "1", weights(1), aliases=("champion",))
    bring()
    events = len(registry.catalog.events())
    (again,) = bring()
    assert (again.known, again.new) == (True, False)
    assert len(registry.catalog.events()) == events
    elsewhere.add("m", "2", weights(2))
    assert [(found.known, found.new) for found in bring()] == [(True, False), (False, True)]


def test_versions_with_the_same_files_are_the_same_version(elsewhere: Elsewhere, bring) -> None:
    elsewhere.add("m", "1", weights(1))
    elsewhere.add("m", "2", weights(2))
    elsewhere.add("m", "3", weights(1))
    numbers = [found.version.number for found in bring()]
    assert numbers == [1, 2, 1]


def test_aliases_point_where_they_pointed_and_never_push_one_aside(
    registry: Registry, elsewhere: Elsewhere, bring
) -> None:
    first = elsewhere.add("m", "1", weights(1), aliases=("champion", "1.0", "feature/x", "!!!"))
    (imported,) = bring()
    assert imported.aliases == ("champion", "v1.0", "feature-x")
    assert imported.kept == {"!!!": "it cannot be an alias here"}
    elsewhere.rows[0] = replace(first, aliases=())
    elsewhere.add("m", "2", weights(2), aliases=("champion",))
    _, second = bring()
    assert second.aliases == ()
    assert "points at version 1" in second.kept["champion"]
    alias = registry.catalog.alias("m", "champion")
    assert alias is not None
    assert alias.number == 1


def test_aliases_stay_there_when_that_is_asked_for(registry: Registry, elsewhere: Elsewhere, bring) -> None:
    elsewhere.add("m", "1", weights(1), aliases=("champion",))
    bring(aliases=False)
    assert registry.catalog.aliases("m") == []


def test_an_alias_is_not_given_to_what_the_policies_do_not_let_through(
    registry: Registry, elsewhere: Elsewhere, bring
) -> None:
    elsewhere.add("m", "1", b"\x80\x04cos\nsystem\n(X\x02\x00\x00\x00idtR.", aliases=("champion",))
    (imported,) = bring()
    assert imported.version is not None
    assert imported.aliases == ()
    assert "was refused: safety" in imported.kept["champion"]
    assert registry.catalog.aliases("m") == []


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "git-sha1"])
def test_bytes_are_compared_with_what_the_other_place_says_of_them(
    registry: Registry, elsewhere: Elsewhere, bring, algorithm: str
) -> None:
    data = weights(1)
    right = {
        "sha256": hashlib.sha256(data),
        "md5": hashlib.md5(data),
        "git-sha1": hashlib.sha1(b"blob %d\0" % len(data) + data),
    }[algorithm].hexdigest()
    elsewhere.add("good", "1", data, Checksum(algorithm, right))
    elsewhere.add("bad", "1", data, Checksum(algorithm, right[:-1] + ("0" if right[-1] != "0" else "1")))
    good, bad = bring()
    assert (good.checked, good.error) == (1, None)
    assert bad.error is not None
    assert bad.error.code == "checksum-mismatch"
    assert registry.catalog.version("bad") is None


def test_what_cannot_be_imported_is_told_and_does_not_stop_the_rest(elsewhere: Elsewhere, bring) -> None:
    elsewhere.rows.append(Unreadable("m", "1", NotFound("gone", code="location-missing")))
    elsewhere.add("名前", "1", weights(1))
    elsewhere.add("m", "2", weights(2))
    gone, unnamed, good = bring()
    assert gone.error is not None
    assert gone.error.code == "location-missing"
    assert unnamed.error is not None
    assert unnamed.error.code == "invalid-name"
    assert good.version is not None


def test_two_models_that_would_get_one_name_are_refused_unless_one_name_is_asked_for(
    elsewhere: Elsewhere, bring
) -> None:
    elsewhere.add("My Model", "1", weights(1))
    elsewhere.add("my-model", "1", weights(2))
    with pytest.raises(InvalidInput) as caught:
        bring()
    assert caught.value.code == "import-name-taken"
    assert [found.version.reference for found in bring(name="all")] == ["all:1", "all:2"]


def test_a_prefix_comes_before_every_name(elsewhere: Elsewhere, bring) -> None:
    elsewhere.add("My Model", "1", weights(1))
    (found,) = bring(prefix="team/")
    assert found.version.reference == "team/my-model:1"


@pytest.mark.parametrize(
    "theirs", ["Fraud Model", "a..b", "a._b", "--x--", "a/B c/d", "UPPER_case__2", "x.-y", "é", "a//b", "_a_", "a_-_b"]
)
def test_a_name_from_elsewhere_becomes_one_that_is_allowed_here_or_nothing(theirs: str) -> None:
    found = model_name(theirs)
    assert found == "" or check_name(found) == found


def test_aliases_from_elsewhere_become_ones_that_are_allowed_here() -> None:
    assert alias_name("3") == "v3"
    assert alias_name("-x-") == "x"
    assert alias_name("…") is None


def test_a_place_that_may_not_be_read_is_told_and_does_not_stop_the_rest(elsewhere: Elsewhere, bring) -> None:
    first = elsewhere.add("net", "1", weights(1))
    elsewhere.add("net", "2", weights(2))

    def refused() -> None:
        raise PermissionError(13, "Permission denied", "/root/models")

    elsewhere.rows[0] = replace(first, open=refused)
    failed, done = bring()
    assert (failed.error.code, done.version.number) == ("unreadable", 1)

    def full() -> None:
        raise OSError(28, "No space left on device")

    elsewhere.rows[:] = [replace(first, open=full)]
    with pytest.raises(StorageError) as caught:
        bring()
    assert caught.value.code == "store-full"


@pytest.mark.parametrize(
    "said",
    [{"params": {"a": "\ud800"}}, {"note": "\udcff"}, {"tags": {"\ud800": "x"}}, {"metrics": {"a": float("nan")}}],
    ids=["params", "note", "tags", "metrics"],
)
def test_what_cannot_be_written_down_is_told_before_anything_is_stored(
    registry: Registry, elsewhere: Elsewhere, bring, said: dict
) -> None:
    elsewhere.add("net", "1", weights(1), **said)
    (failed,) = bring()
    assert failed.error.code == "import-unwritable"
    assert list(registry.catalog.versions("net")) == []
