"""The contract of catalogs (``assay.ports.catalog.Catalog``), as a suite.

To run it over a catalog of your own::

    class TestMyCatalog(CatalogContract):
        def open_catalog(self, folder: Path) -> Catalog:
            return MyCatalog(folder / "names")

``open_catalog`` opens the catalog that lies in *folder*: empty the first time, later with everything that was done
to it before. A catalog that keeps nothing on disk returns the same object for the same folder.

Random changes in random order: ``assay.testing.catalog_machine``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.errors import Conflict, NotFound
from assay.ports.catalog import Catalog
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import EventKind, Version

STATEMENT = "application/vnd.in-toto+json"
"""Artifact type of the statements that tests attach."""


def artifact(seed: object) -> Digest:
    """The digest of some artifact."""
    return Digest.of(str(seed).encode())


def push(catalog: Catalog, name: str, seed: object) -> Version:
    """Number an artifact, as a push does."""
    return catalog.add_version(name, artifact(seed), size=100, entries=2, actor="ada")[0]


class CatalogContract:
    """Tests that hold for every catalog."""

    def open_catalog(self, folder: Path) -> Catalog:
        """The catalog in *folder*; empty the first time."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where the catalog lies."""
        folder = tmp_path / "place"
        folder.mkdir()
        return folder

    @pytest.fixture
    def catalog(self, folder: Path) -> Catalog:
        """The catalog under test."""
        return self.open_catalog(folder)

    def test_an_empty_catalog_knows_nothing(self, catalog: Catalog) -> None:
        assert list(catalog.models()) == []
        assert list(catalog.versions("fraud/churn")) == []
        assert catalog.version("fraud/churn") is None
        assert catalog.version("fraud/churn", 1) is None
        assert catalog.alias("fraud/churn", "champion") is None
        assert list(catalog.aliases("fraud/churn")) == []
        assert list(catalog.by_manifest(artifact(1))) == []
        assert list(catalog.referrers(artifact(1))) == []
        assert list(catalog.events()) == []
        assert catalog.reindex() == 0

    def test_versions_of_a_model_are_numbered_from_one_and_listed_newest_first(self, catalog: Catalog) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        first, new = catalog.add_version("fraud/churn", artifact(1), size=7, entries=3, actor="ada")
        push(catalog, "fraud/churn", 2)

        assert new
        assert (first.number, first.manifest, first.size, first.entries) == (1, artifact(1), 7, 3)
        assert (first.actor, first.purged) == ("ada", None)
        assert before < first.created < datetime.now(UTC) + timedelta(seconds=1)
        assert first.created.utcoffset() == timedelta(0)
        assert [version.number for version in catalog.versions("fraud/churn")] == [2, 1]
        assert [version.number for version in catalog.versions("fraud/churn", limit=1)] == [2]
        assert catalog.version("fraud/churn", 1) == first
        assert catalog.version("fraud/churn") == catalog.versions("fraud/churn")[0]
        for number in (-1, 0, 3):
            assert catalog.version("fraud/churn", number) is None

    def test_the_same_artifact_keeps_its_number_and_leaves_no_event(self, catalog: Catalog) -> None:
        first = push(catalog, "fraud/churn", 1)
        push(catalog, "fraud/churn", 2)
        again, new = catalog.add_version("fraud/churn", artifact(1), size=100, entries=2, actor="bob")
        assert (again, new) == (first, False)
        assert len(catalog.events()) == 2

    def test_every_model_counts_for_itself(self, catalog: Catalog) -> None:
        for name in ("b", "a/x", "a/y"):
            assert push(catalog, name, 1).number == 1
        assert [version.name for version in catalog.by_manifest(artifact(1))] == ["a/x", "a/y", "b"]
        assert [version.name for version in catalog.by_manifest(artifact(1), name="b")] == ["b"]
        assert list(catalog.by_manifest(artifact(1), name="c")) == []

    def test_models_are_summed_up_by_name(self, catalog: Catalog) -> None:
        for name, seed in (("b", 1), ("a/y", 2), ("a/x", 3), ("a/x", 4), ("ab", 5)):
            push(catalog, name, seed)
        catalog.move_alias("a/x", "champion", 1, expect=None, actor="ada")
        catalog.move_alias("a/x", "beta", 2, expect=None, actor="ada")

        models = list(catalog.models())
        assert [model.name for model in models] == ["a/x", "a/y", "ab", "b"]
        assert [model.versions for model in models] == [2, 1, 1, 1]
        assert models[0].latest == catalog.version("a/x", 2)
        assert models[0].aliases == {"beta": 2, "champion": 1}
        assert models[1].aliases == {}
        assert [model.name for model in catalog.models(prefix="a/")] == ["a/x", "a/y"]
        assert [model.name for model in catalog.models(prefix="a", limit=2)] == ["a/x", "a/y"]
        assert list(catalog.models(prefix="c")) == []
        assert catalog.models(limit=1) == models[:1]

    def test_an_alias_moves_by_compare_and_swap(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        push(catalog, "m", 2)
        made = catalog.move_alias("m", "champion", 1, expect=None, actor="ada", reason="first")
        assert (made.name, made.alias, made.number, made.actor) == ("m", "champion", 1, "ada")
        moved = catalog.move_alias("m", "champion", 2, expect=1, actor="bob")
        assert catalog.alias("m", "champion") == moved
        assert list(catalog.aliases("m")) == [moved]
        newest = catalog.events(name="m", limit=1)[0]
        assert newest.kind is EventKind.ALIAS_MOVED
        assert (newest.data["alias"], newest.data["number"], newest.data["from"]) == ("champion", 2, 1)

    @pytest.mark.parametrize("expect", [None, 3])
    def test_an_alias_that_points_elsewhere_is_left_alone(self, catalog: Catalog, expect: int | None) -> None:
        for seed in (1, 2, 3):
            push(catalog, "m", seed)
        now = catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        with pytest.raises(Conflict) as caught:
            catalog.move_alias("m", "champion", 2, expect=expect, actor="bob")
        assert caught.value.code == "alias-moved"
        assert catalog.alias("m", "champion") == now
        assert len(catalog.events()) == 4

    def test_an_alias_that_must_exist_and_does_not_is_not_made(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        with pytest.raises(Conflict):
            catalog.move_alias("m", "champion", 1, expect=1, actor="ada")
        assert list(catalog.aliases("m")) == []

    def test_moving_an_alias_to_where_it_points_is_no_event(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        now = catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        assert catalog.move_alias("m", "champion", 1, expect=1, actor="bob") == now
        assert len(catalog.events()) == 2

    def test_an_alias_points_at_versions_that_exist_only(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        for name, number in (("m", 2), ("m", 0), ("n", 1)):
            with pytest.raises(NotFound) as caught:
                catalog.move_alias(name, "champion", number, expect=None, actor="ada")
            assert caught.value.code == "version-not-found"

    def test_no_alias_moves_to_what_was_yanked_or_purged_meanwhile(self, catalog: Catalog) -> None:
        for seed in (1, 2, 3):
            push(catalog, "m", seed)
        now = catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        catalog.mark("m", 2, EventKind.YANKED, reason="leaked labels", actor="bob")
        catalog.mark_purged(artifact(3), reason="leaked", actor="bob")
        with pytest.raises(Conflict) as caught:
            catalog.move_alias("m", "champion", 2, expect=1, actor="ada")
        assert caught.value.code == "version-yanked"
        assert "leaked labels" in caught.value.message
        with pytest.raises(NotFound) as lost:
            catalog.move_alias("m", "champion", 3, expect=1, actor="ada")
        assert lost.value.code == "purged"
        assert catalog.alias("m", "champion") == now
        catalog.mark("m", 1, EventKind.YANKED, reason="too", actor="bob")
        assert catalog.move_alias("m", "champion", 1, expect=1, actor="ada") == now

    def test_a_removed_alias_is_gone_and_its_move_is_remembered(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        catalog.remove_alias("m", "champion", actor="bob", reason="retired")
        assert catalog.alias("m", "champion") is None
        assert [event.kind for event in catalog.events(limit=2)] == [EventKind.ALIAS_REMOVED, EventKind.ALIAS_MOVED]
        assert catalog.events(limit=1)[0].data["reason"] == "retired"
        with pytest.raises(NotFound) as caught:
            catalog.remove_alias("m", "champion", actor="bob")
        assert caught.value.code == "alias-not-found"

    def test_the_evidence_of_a_move_is_kept_as_it_was_given(self, catalog: Catalog, folder: Path) -> None:
        push(catalog, "m", 1)
        push(catalog, "m", 2)
        gate: Json = {"gate": "metric größe", "value": 0.91, "state": "passed"}
        evidence: dict[str, Json] = {"kind": "promotion", "gates": [gate], "a": None}
        catalog.move_alias("m", "champion", 1, expect=None, actor="ada", reason="first", evidence=evidence)
        catalog.move_alias("m", "champion", 2, expect=1, actor="ada", evidence={})
        for found in (catalog, self.open_catalog(folder)):
            second, first = found.events(name="m", kinds=[EventKind.ALIAS_MOVED])
            assert (first.data["evidence"], first.data["reason"]) == (evidence, "first")
            assert "evidence" not in second.data
        catalog.reindex()
        assert catalog.events(name="m", kinds=[EventKind.ALIAS_MOVED])[1].data["evidence"] == evidence

    def test_an_alias_that_points_elsewhere_is_not_removed(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        now = catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        with pytest.raises(Conflict) as caught:
            catalog.remove_alias("m", "champion", actor="bob", expect=2)
        assert caught.value.code == "alias-moved"
        assert catalog.alias("m", "champion") == now
        catalog.remove_alias("m", "champion", actor="bob", expect=1)
        assert catalog.alias("m", "champion") is None

    def test_statements_are_attached_once_and_listed_oldest_first(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        for seed, new in (("s1", True), ("s2", True), ("s1", False)):
            found = catalog.add_referrer(artifact(1), artifact(seed), STATEMENT, size=9, actor="ada")
            assert found is new
        catalog.add_referrer(artifact(2), artifact("s1"), STATEMENT, size=9, actor="ada")
        referrers = catalog.referrers(artifact(1))
        assert [referrer.manifest for referrer in referrers] == [artifact("s1"), artifact("s2")]
        assert (referrers[0].subject, referrers[0].artifact_type, referrers[0].size) == (artifact(1), STATEMENT, 9)

    def test_dropped_statements_are_forgotten_on_record_and_can_be_attached_again(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        for seed in ("s1", "s2", "s3"):
            catalog.add_referrer(artifact(1), artifact(seed), STATEMENT, size=9, actor="ada")

        assert catalog.drop_referrers(artifact(1), [artifact("s3"), artifact("s1"), artifact("s9")], actor="bob") == 2
        assert [found.manifest for found in catalog.referrers(artifact(1))] == [artifact("s2")]
        newest = catalog.events(name="m", limit=1)[0]
        assert (newest.kind, newest.actor) == (EventKind.STATEMENTS_DROPPED, "bob")
        assert newest.data["manifests"] == [str(artifact("s1")), str(artifact("s3"))]
        assert catalog.drop_referrers(artifact(1), [artifact("s1")], actor="bob") == 0
        assert catalog.drop_referrers(artifact(2), [artifact("s2")], actor="bob") == 0
        assert len(catalog.events()) == 5
        assert catalog.add_referrer(artifact(1), artifact("s1"), STATEMENT, size=9, actor="ada")
        assert [found.manifest for found in catalog.referrers(artifact(1))] == [artifact("s2"), artifact("s1")]

    def test_a_purged_artifact_keeps_its_number_and_comes_back_under_a_new_one(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        push(catalog, "m", 2)
        push(catalog, "n", 1)
        hit = catalog.mark_purged(artifact(1), reason="leaked", actor="ada")
        assert [version.reference for version in hit] == ["m:1", "n:1"]
        assert {version.purged for version in hit} == {"leaked"}
        assert catalog.version("m", 1) == hit[0]
        assert push(catalog, "m", 1).number == 3
        assert [version.purged for version in catalog.by_manifest(artifact(1), name="m")] == ["leaked", None]

    def test_marks_are_set_and_cleared_on_record(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        push(catalog, "m", 2)
        for kind, mark in ((EventKind.YANKED, "yanked"), (EventKind.PINNED, "pinned"), (EventKind.REMOVED, "removed")):
            marked = catalog.mark("m", 1 if mark != "removed" else 2, kind, reason=f"because {kind}", actor="bob")
            assert getattr(marked, mark) == f"because {kind}"
            assert catalog.version("m", marked.number) == marked
            assert list(catalog.by_manifest(marked.manifest)) == [marked]
        assert [version.gone for version in catalog.versions("m")] == [True, False]
        for kind, mark in ((EventKind.UNYANKED, "yanked"), (EventKind.UNPINNED, "pinned")):
            assert getattr(catalog.mark("m", 1, kind, reason="", actor="bob"), mark) is None
            assert catalog.mark("m", 1, kind, reason="", actor="bob") == catalog.version("m", 1)
        assert len(catalog.events(name="m")) == 7

    def test_a_removed_version_is_given_up_and_its_number_is_never_used_again(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        catalog.mark("m", 1, EventKind.REMOVED, reason="old", actor="ada")
        for do in (
            lambda: catalog.mark("m", 1, EventKind.PINNED, reason="late", actor="ada"),
            lambda: catalog.mark("m", 1, EventKind.REMOVED, reason="again", actor="ada"),
            lambda: catalog.move_alias("m", "champion", 1, expect=None, actor="ada"),
        ):
            with pytest.raises(NotFound) as caught:
                do()
            assert caught.value.code == "version-removed"
        assert push(catalog, "m", 1).number == 2
        with pytest.raises(NotFound) as caught:
            catalog.mark("m", 3, EventKind.PINNED, reason="none", actor="ada")
        assert caught.value.code == "version-not-found"

    def test_what_an_alias_or_a_pin_holds_is_not_removed(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        push(catalog, "m", 2)
        catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        catalog.mark("m", 2, EventKind.PINNED, reason="audit", actor="ada")
        for number, code in ((1, "alias-holds"), (2, "version-pinned")):
            with pytest.raises(Conflict) as caught:
                catalog.mark("m", number, EventKind.REMOVED, reason="old", actor="ada")
            assert caught.value.code == code
        assert not any(version.gone for version in catalog.versions("m"))

    def test_purging_twice_is_one_event_and_an_unnamed_artifact_leaves_one_too(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        catalog.mark_purged(artifact(1), reason="leaked", actor="ada")
        assert list(catalog.mark_purged(artifact(1), reason="again", actor="ada")) == []
        assert len(catalog.events(kinds=[EventKind.PURGED])) == 1
        assert list(catalog.mark_purged(artifact("nobody's"), reason="leaked", actor="ada")) == []
        assert len(catalog.events(kinds=[EventKind.PURGED])) == 2

    def test_history_of_a_model_holds_what_happened_to_it_newest_first(self, catalog: Catalog) -> None:
        push(catalog, "m", 1)
        push(catalog, "other", 2)
        catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        catalog.add_referrer(artifact(1), artifact("s"), STATEMENT, size=9, actor="ada")
        catalog.record_copy(artifact(1), "oci:/backup", name="m", actor="ada")
        catalog.mark_purged(artifact(1), reason="leaked", actor="ada")
        push(catalog, "late", 1)

        assert [event.kind for event in catalog.events(name="m")] == [
            EventKind.PURGED,
            EventKind.COPIED,
            EventKind.STATEMENT_ADDED,
            EventKind.ALIAS_MOVED,
            EventKind.VERSION_ADDED,
        ]
        assert [event.kind for event in catalog.events(name="late")] == [EventKind.VERSION_ADDED]
        assert list(catalog.events(name="nobody")) == []
        copies = catalog.events(kinds=[EventKind.COPIED])
        assert [(event.data["manifest"], event.data["place"]) for event in copies] == [
            (str(artifact(1)), "oci:/backup")
        ]
        assert len(catalog.events(name="m", kinds=[EventKind.PURGED, EventKind.COPIED], limit=1)) == 1

    def test_events_are_numbered_without_gaps(self, catalog: Catalog) -> None:
        for seed in range(4):
            push(catalog, "m", seed)
        push(catalog, "m", 0)
        assert [event.sequence for event in catalog.events()] == [4, 3, 2, 1]
        assert [event.sequence for event in catalog.events(limit=2)] == [4, 3]

    def test_reopening_and_reindexing_change_nothing(self, catalog: Catalog, folder: Path) -> None:
        for seed in (1, 2, 3):
            push(catalog, "m", seed)
        catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
        catalog.move_alias("m", "old", 1, expect=None, actor="ada")
        catalog.remove_alias("m", "old", actor="ada")
        catalog.add_referrer(artifact(1), artifact("s"), STATEMENT, size=9, actor="ada")
        catalog.mark_purged(artifact(2), reason="leaked", actor="ada")
        catalog.mark("m", 1, EventKind.YANKED, reason="wrong labels", actor="ada")
        catalog.mark("m", 1, EventKind.PINNED, reason="audit", actor="ada")
        catalog.mark("m", 3, EventKind.PINNED, reason="", actor="ada")
        catalog.mark("m", 3, EventKind.UNPINNED, reason="done", actor="ada")
        catalog.mark("m", 3, EventKind.REMOVED, reason="retention", actor="ada")
        for said in ("s1", "s2"):
            catalog.add_referrer(artifact(3), artifact(said), STATEMENT, size=9, actor="ada")
        catalog.drop_referrers(artifact(3), [artifact("s1")], actor="ada")
        before = everything(catalog)

        assert everything(self.open_catalog(folder)) == before
        assert catalog.reindex() == 16
        assert everything(catalog) == before

    def test_simultaneous_pushes_of_one_name_get_consecutive_numbers(self, catalog: Catalog) -> None:
        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(lambda seed: push(catalog, "m", seed), range(24)))
        assert sorted(version.number for version in versions) == list(range(1, 25))
        assert len({version.manifest for version in versions}) == 24


def everything(catalog: Catalog) -> dict[str, object]:
    """All that a catalog says, for comparing two of them."""
    models = list(catalog.models())
    manifests = {version.manifest for model in models for version in catalog.versions(model.name)}
    return {
        "models": models,
        "versions": {model.name: list(catalog.versions(model.name)) for model in models},
        "aliases": {model.name: list(catalog.aliases(model.name)) for model in models},
        "manifests": {str(manifest): list(catalog.by_manifest(manifest)) for manifest in manifests},
        "referrers": {str(manifest): list(catalog.referrers(manifest)) for manifest in manifests},
        "events": list(catalog.events()),
        "history": {model.name: list(catalog.events(name=model.name)) for model in models},
    }
