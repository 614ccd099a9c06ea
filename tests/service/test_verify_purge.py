"""Verify names what is wrong and makes repair possible; purge removes for good and says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from store_faults import contents, damage

from assay.errors import InvalidInput, NotFound
from assay.service import browse, fetch, purge, transfer, verify
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.service.snapshots import snapshot
from assay.service.verify import State
from assay.spec.digest import Digest
from assay.testing.blobs import Counter
from assay.wiring.places import open_layout


class During(Counter):
    """Progress that does something when the files are stored and nothing names them yet."""

    def __init__(self, does) -> None:
        super().__init__()
        self.does = does

    def finish(self) -> None:
        self.does()


def test_an_intact_version_verifies_with_all_its_statements(push, registry: Registry, model: Path) -> None:
    version = push(model, claims=Claims(note="fine")).version

    found = verify.verify(registry, version)

    assert found.ok
    assert {"manifest", "config", "README.md", "statement note", "statement description, document"} <= {
        one.path for one in found.checked
    }


def test_a_flipped_bit_is_named_set_aside_and_repaired_by_the_next_push(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    damage(registry, (model / "settings.json").read_bytes())

    found = verify.verify(registry, version)

    assert [(one.path, one.state) for one in found.bad] == [("settings.json", State.DAMAGED)]
    assert len(found.set_aside) == 1
    assert Path(found.set_aside[0]).exists()
    assert verify.verify(registry, version).bad[0].state is State.MISSING
    push(model)
    assert verify.verify(registry, version).ok


def test_a_version_that_is_purged_while_it_is_verified_is_purged_and_not_damaged(
    push, registry: Registry, model: Path
) -> None:
    version = push(model).version
    purge.purge(registry, version, reason="leaked")

    with pytest.raises(NotFound) as caught:
        verify.verify(registry, version)  # as it was when somebody made a list of versions

    assert caught.value.code == "purged"


def test_what_a_push_repairs_while_it_is_verified_is_not_set_aside(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    damage(registry, (model / "settings.json").read_bytes())

    found = verify.verify(registry, version, progress=During(lambda: push(model)))

    assert [one.path for one in found.bad] == ["settings.json"]
    assert found.set_aside == ()
    assert verify.verify(registry, version).ok


def test_a_push_of_the_same_files_repairs_damage_that_nobody_noticed(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    damage(registry, (model / "model.safetensors").read_bytes())

    push(model)

    assert verify.verify(registry, version).ok


def test_a_damaged_manifest_and_a_damaged_statement_are_named(push, registry: Registry, model: Path) -> None:
    version = push(model, claims=Claims(note="fine")).version
    (statement,) = registry.statements(version.manifest, "note")
    damage(registry, statement.document())

    assert [one.path for one in verify.verify(registry, version).bad] == ["statement note, document"]
    damage(registry, registry.manifest(version).data)
    assert [one.path for one in verify.verify(registry, version).bad] == ["manifest"]


def test_verify_says_where_a_copy_was_made_and_the_copy_repairs(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="1")
    damage(registry, (model / "README.md").read_bytes())

    found = verify.verify(registry, version)
    assert found.copies == (f"oci:{tmp_path / 'layout'}:1",)

    transfer.copy_in(registry, version.name, blobs, index, tag="1")
    assert verify.verify(registry, version).ok


def test_purged_bytes_are_gone_and_the_record_stays(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model, alias="champion").version
    secret = Digest.of((model / "settings.json").read_bytes())

    done = purge.purge(registry, version, reason="leaked a key")

    assert secret in done.removed
    assert registry.blobs.size(secret) is None
    assert registry.blobs.size(version.manifest) is None
    purged = registry.catalog.version("team/model", 1)
    assert purged is not None
    assert purged.purged == "leaked a key"
    assert purged.manifest == version.manifest
    with pytest.raises(NotFound) as caught:
        fetch.pull(registry, purged, tmp_path / "out")
    assert caught.value.code == "purged"
    events = browse.history(registry, "team/model")
    assert events[0]["kind"] == "purged"
    assert events[0]["data"]["reason"] == "leaked a key"


def test_purging_keeps_what_another_version_needs_and_names_it(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    first = push(model).version
    (model / "settings.json").write_text("{}")
    second = push(model).version

    done = purge.purge(registry, first, reason="licence")

    assert done.shared["README.md"] == ["team/model:2"]
    assert verify.verify(registry, second).ok
    fetch.pull(registry, second, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(model)


def test_what_a_push_under_way_adds_again_outlives_a_purge_and_is_told(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    first = push(model).version
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "settings.json").write_text("{}")
    done: list[purge.Purged] = []

    second = push(other, "b", progress=During(lambda: done.append(purge.purge(registry, first, reason="leak")))).version

    assert verify.verify(registry, second).ok
    assert Digest.of((model / "model.safetensors").read_bytes()) in done[0].spared
    assert Digest.of((model / "settings.json").read_bytes()) in done[0].removed
    assert not set(done[0].spared) & set(done[0].removed)


def test_what_is_named_between_plan_and_purge_outlives_it(
    push, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = push(model).version
    mark = registry.catalog.mark_purged

    def named_first(manifest: Digest, **options: str) -> None:
        mark(manifest, **options)
        registry.catalog.add_version("other", manifest, size=1, entries=1, actor="ada")

    monkeypatch.setattr(registry.catalog, "mark_purged", named_first)

    done = purge.purge(registry, first, reason="leak")

    (again,) = registry.catalog.versions("other")
    assert verify.verify(registry, again).ok
    assert (done.removed, done.freed) == ((), 0)


def test_a_purged_number_is_never_used_again(push, registry: Registry, model: Path) -> None:
    purge.purge(registry, push(model).version, reason="mistake")

    assert push(model).version.number == 2


def test_an_interrupted_purge_is_finished_by_the_next_one(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    registry.catalog.mark_purged(version.manifest, reason="leak", actor="tester")  # and then the power went
    purged = registry.catalog.version("team/model", 1)
    assert purged is not None

    purge.purge(registry, purged, reason="leak")

    assert list(registry.blobs.digests()) in ([], [Digest.of(b"{}")])


def test_purging_without_a_reason_is_refused(push, registry: Registry, model: Path) -> None:
    version = push(model).version

    with pytest.raises(InvalidInput):
        purge.purge(registry, version, reason="  ")
    assert verify.verify(registry, version).ok


def test_no_byte_of_a_purged_file_is_left_anywhere_in_the_home(
    push, registry: Registry, model: Path, home: Path
) -> None:
    secret = b"a key that must not be kept " * 40
    (model / "leaked.bin").write_bytes(secret)
    version = push(model).version
    snapshots = home / "snapshots"
    with snapshot(registry.blobs, registry.manifest(version), snapshots):
        pass  # as loading does; the snapshot stays for the next load
    damage(registry, (model / "settings.json").read_bytes())
    verify.verify(registry, version)  # sets the damaged blob aside
    blob = registry.blobs.local_file(Digest.of(secret))
    assert blob is not None
    (home / "damaged" / f"{blob.name}-1").write_bytes(secret)

    purge.purge(registry, version, reason="leaked", snapshots=snapshots)

    assert [file for file in home.rglob("*") if file.is_file() and secret[:28] in file.read_bytes()] == []
    assert list((home / "damaged").iterdir()) == []
