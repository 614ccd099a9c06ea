"""Usage: every byte is counted once, for whom it is, and removing gives back what was said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from assay.service import garbage, removing, usage
from assay.service.derived import Folders
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.service.snapshots import snapshot

LARGE = bytes(range(256)) * 400


@pytest.fixture
def three(push, registry: Registry, model: Path):
    """Two versions of one model that share a large file, and the second of them under another name too."""
    (model / "large.bin").write_bytes(LARGE)
    first = push(model).version
    (model / "settings.json").write_text("x" * 500)
    return first, push(model).version, push(model, "other/model").version


def test_logical_stored_exclusive_and_shared_tell_where_the_bytes_are(three, registry: Registry) -> None:
    found = usage.usage(registry)

    models = {model.name: model for model in found.models}
    second, first = models["team/model"].versions
    (other,) = models["other/model"].versions
    assert (first.logical, second.logical) == (three[0].size, three[1].size)
    assert first.stored > first.logical  # with manifest and config
    assert first.shared_with == ("other/model:1", "team/model:2")
    assert second.shared_with == ("other/model:1", "team/model:1")
    assert (second.exclusive, other.exclusive, models["other/model"].exclusive) == (0, 0, 0)
    assert models["team/model"].shared_with == ("other/model",)
    assert models["team/model"].logical == first.logical + second.logical
    assert first.stored < models["team/model"].stored < first.stored + second.stored - len(LARGE) + 1
    assert found.logical == sum(model.logical for model in found.models)
    assert found.stored == sum(one.size for one in registry.blobs.inventory())
    assert (found.garbage, found.disk_free, found.folders) == (0, None, ())


def test_removing_gives_back_what_usage_and_remove_say(three, registry: Registry) -> None:
    first, second, other = three
    stated = {one.version.reference: one.exclusive for model in usage.usage(registry).models for one in model.versions}
    assert usage.given_back(registry, first) == stated["team/model:1"] > 0
    assert usage.given_back(registry, second) == 0
    before = sum(one.size for one in registry.blobs.inventory())

    removing.remove(registry, first, reason="old")
    assert usage.usage(registry).garbage == stated["team/model:1"]
    freed = garbage.collect(registry, garbage.plan(registry, grace=timedelta())).freed

    assert freed == stated["team/model:1"]
    assert sum(one.size for one in registry.blobs.inventory()) == before - freed
    removing.remove(registry, other, reason="old")
    (model,) = usage.usage(registry).models
    assert model.exclusive == model.stored == sum(one.size for one in registry.blobs.inventory())


def test_statements_are_counted_apart(push, registry: Registry, model: Path) -> None:
    push(model)
    before = usage.usage(registry)
    push(model, claims=Claims(note="x" * 5000))

    after = usage.usage(registry)

    assert after.statements - before.statements == after.stored - before.stored > 5000
    assert after.models[0].stored - before.models[0].stored == after.statements - before.statements
    assert after.models[0].exclusive - before.models[0].exclusive == after.stored - before.stored


def test_folders_beside_the_blobs_say_what_they_take_and_how_it_comes_back(
    three, registry: Registry, home: Path
) -> None:
    folders = Folders(home / "snapshots", (home / "audits",))
    with snapshot(registry.blobs, registry.manifest(three[0]), folders.snapshots):
        pass
    (home / "audits/x").mkdir(parents=True)
    (home / "audits/x/one.json").write_bytes(bytes(70))
    (home / "damaged").mkdir()
    (home / "damaged/abc-1").write_bytes(bytes(30))

    found = usage.usage(registry, home=home, folders=folders)

    by_name = {folder.name: folder for folder in found.folders}
    assert by_name["snapshots"].size == 0  # hard links to blobs
    assert (by_name["audits"].size, by_name["audits"].frees) == (70, "assay gc --derived --yes")
    assert (by_name["damaged"].size, by_name["damaged"].frees) == (30, None)
    assert by_name["journal.jsonl"].size == (home / "journal.jsonl").stat().st_size
    assert found.total == found.stored + sum(folder.size for folder in found.folders)
    assert found.disk_free is not None


def test_what_lies_beside_a_bucket_is_not_told_to_be_the_only_copy(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "beside" / "packs").mkdir(parents=True)
    for marked in (False, True):
        if marked:
            (tmp_path / "beside" / "registry-id").write_text("0" * 32)
        notes = {one.name: one.note for one in usage.usage(registry, home=tmp_path / "beside").folders}
        assert ("never delete" in notes["packs"]) is not marked


def test_the_files_of_a_version_say_who_else_has_them(three, registry: Registry) -> None:
    found = {one.path: one for one in usage.files_of(registry, three[0])}

    assert found["large.bin"].shared_with == ("other/model:1", "team/model:2")
    assert found["settings.json"].shared_with == ()
    assert found["large.bin"].size == len(LARGE)
