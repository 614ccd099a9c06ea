"""Copies to and from OCI image layouts carry the bytes, the digest and everything said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_faults import contents, damage

from assay.errors import Conflict, IntegrityError, InvalidInput, NotFound, StorageError
from assay.service import browse, fetch, transfer
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.wiring.places import open_layout, open_registry


def test_a_copy_out_and_in_again_keeps_digest_files_and_statements(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model, claims=Claims(metrics={"auc": 0.9}, note="good")).version
    blobs, index = open_layout(tmp_path / "layout")
    out = transfer.copy_out(registry, version, blobs, index, tag="v1")
    other = open_registry(Settings(tmp_path / "elsewhere", "somebody"), create=True)

    copied = transfer.copy_in(other, "imported", blobs, index, tag="v1")

    assert copied.version is not None
    assert copied.version.manifest == out.manifest == version.manifest
    said = {found.kind: found.predicate for found in other.statements(version.manifest)}
    assert said == {found.kind: found.predicate for found in registry.statements(version.manifest)}
    fetch.pull(other, copied.version, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(model)


def test_the_layout_is_what_oci_tools_expect(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="v1")

    assert json.loads((tmp_path / "layout/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    listed = json.loads((tmp_path / "layout/index.json").read_text())
    assert listed["schemaVersion"] == 2
    tagged = [
        found for found in listed["manifests"] if found.get("annotations", {}).get("org.opencontainers.image.ref.name")
    ]
    assert [found["digest"] for found in tagged] == [str(version.manifest)]
    for found in listed["manifests"]:
        data = (tmp_path / "layout/blobs/sha256" / found["digest"][7:]).read_bytes()
        assert (str(Digest.of(data)), len(data)) == (found["digest"], found["size"])


def test_copying_again_moves_nothing_and_lists_nothing_twice(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    blobs, index = open_layout(tmp_path / "layout")
    first = transfer.copy_out(registry, version, blobs, index, tag="v1")
    before = (tmp_path / "layout/index.json").read_bytes()

    again = transfer.copy_out(registry, version, blobs, index, tag="v1")

    assert first.moved > 0
    assert again.moved == 0
    assert again.skipped == first.moved + first.skipped
    assert sorted(json.loads(before)["manifests"], key=str) == sorted(
        json.loads((tmp_path / "layout/index.json").read_bytes())["manifests"], key=str
    )


def test_a_second_version_shares_the_layout(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, push(model).version, blobs, index, tag="1")
    (model / "README.md").write_text("changed")
    second = transfer.copy_out(registry, push(model).version, blobs, index, tag="2")

    assert set(index.tags()) == {"1", "2"}
    assert second.skipped > 0


def test_damaged_bytes_in_the_layout_number_nothing(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="1")
    other = open_registry(Settings(tmp_path / "elsewhere", "somebody"), create=True)
    file = blobs.local_file(Digest.of((model / "README.md").read_bytes()))
    assert file is not None
    file.chmod(0o644)
    file.write_bytes(b"# A modem\n")

    with pytest.raises(IntegrityError):
        transfer.copy_in(other, "imported", blobs, index, tag="1")
    assert other.catalog.version("imported") is None


def test_damaged_bytes_here_are_not_spread(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version
    damage(registry, (model / "model.safetensors").read_bytes())
    blobs, index = open_layout(tmp_path / "layout")

    with pytest.raises(IntegrityError):
        transfer.copy_out(registry, version, blobs, index, tag="1")
    assert not (tmp_path / "layout/index.json").exists()


def test_a_tag_that_is_not_there_is_named_with_those_that_are(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, push(model).version, blobs, index, tag="1")

    with pytest.raises(NotFound) as caught:
        transfer.copy_in(registry, "imported", blobs, index, tag="2")
    assert caught.value.code == "tag-not-found"
    assert "1" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"{", b'{"manifests": 3}', b'{"manifests": [{}]}'])
def test_a_folder_that_is_not_a_layout_is_refused(registry: Registry, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/index.json").write_bytes(content)
    blobs, index = open_layout(tmp_path / "layout")

    with pytest.raises(InvalidInput):
        transfer.copy_in(registry, "imported", blobs, index)


def test_hostile_names_in_a_foreign_manifest_number_nothing(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    data = registry.manifest(version).data.replace(b'"README.md"', b'"../../README.md"')
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="1")
    digest = blobs.add(data)
    listed = json.loads((tmp_path / "layout/index.json").read_text())
    listed["manifests"] = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(digest),
            "size": len(data),
            "annotations": {"org.opencontainers.image.ref.name": "evil"},
        }
    ]
    (tmp_path / "layout/index.json").write_text(json.dumps(listed))

    with pytest.raises(InvalidInput) as caught:
        transfer.copy_in(registry, "imported", blobs, index, tag="evil")
    assert caught.value.code == "unsafe-path"
    assert registry.catalog.version("imported") is None


def test_a_layout_that_lacks_bytes_is_named_with_the_file_and_numbers_nothing(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, push(model).version, blobs, index, tag="v1")
    (tmp_path / "layout/blobs/sha256" / Digest.of((model / "README.md").read_bytes()).hex).unlink()
    other = open_registry(Settings(tmp_path / "elsewhere", "somebody"), create=True)

    with pytest.raises(NotFound, match=r"layout:v1 is not whole: the bytes of README.md are missing there") as caught:
        transfer.copy_in(other, "imported", blobs, index)

    assert caught.value.code == "blob-missing"
    assert other.catalog.models() == []


def test_a_layout_without_tags_says_so(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')

    with pytest.raises(NotFound, match="has no tags"):
        transfer.copy_in(registry, "imported", *open_layout(tmp_path))


def test_a_file_is_no_layout(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(NotFound) as caught:
        transfer.copy_in(registry, "imported", *open_layout(tmp_path / "file"))

    assert caught.value.code == "layout-not-found"


def test_a_layout_is_not_mixed_into_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()

    for taken in (tmp_path / "mine", tmp_path / "mine/notes.txt"):
        with pytest.raises(Conflict) as caught:
            open_layout(taken)[1].check_destination()
        assert caught.value.code == "destination-not-empty"
    open_layout(tmp_path / "empty")[1].check_destination()
    open_layout(tmp_path / "new")[1].check_destination()


@pytest.mark.parametrize("body", ['{"manifests": [{"a": 1}]}', '{"manifests": 3}', "{"])
def test_an_index_in_another_form_is_named(registry: Registry, tmp_path: Path, body: str) -> None:
    (tmp_path / "index.json").write_text(body)

    with pytest.raises(InvalidInput, match=r"index\.json is not an OCI image index"):
        transfer.copy_in(registry, "imported", *open_layout(tmp_path))


def test_a_tag_whose_manifest_is_missing_says_so(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    version = push(model).version
    transfer.copy_out(registry, version, blobs, index, tag="v1")
    (tmp_path / "layout/blobs/sha256" / version.manifest.hex).unlink()

    with pytest.raises(NotFound, match=r"layout:v1 is not whole: its manifest sha256:[0-9a-f]{12} is missing there"):
        transfer.copy_in(registry, "imported", blobs, index)


def test_who_may_only_read_a_home_copies_from_it(
    push, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("cannot change the catalog: it is read-only", code="store-read-only")

    monkeypatch.setattr(type(registry.catalog), "record_copy", refuse)
    blobs, index = open_layout(tmp_path / "layout")

    assert transfer.copy_out(registry, version, blobs, index, tag="v1").tag == "v1"
    assert list(index.tags()) == ["v1"]


def _attached(layout: Path, blobs, version, registry: Registry, layers: list[dict], artifact_type: str) -> None:
    """List a foreign referrer of *version* in a layout."""
    empty = blobs.add(b"{}")
    subject = registry.manifest(version).data
    body = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(empty), "size": 2},
        "layers": layers,
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(version.manifest),
            "size": len(subject),
        },
    }
    data = json.dumps(body).encode()
    listed = json.loads((layout / "index.json").read_text())
    listed["manifests"].append(
        {
            "mediaType": body["mediaType"],
            "digest": str(blobs.add(data)),
            "size": len(data),
            "artifactType": artifact_type,
        }
    )
    (layout / "index.json").write_text(json.dumps(listed))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_others_attached_comes_along_and_shows_whatever_its_form(
    push, registry: Registry, model: Path, tmp_path: Path, count: int
) -> None:
    layout = tmp_path / "layout"
    blobs, index = open_layout(layout)
    version = push(model).version
    transfer.copy_out(registry, version, blobs, index, tag="v1")
    layers = [{"mediaType": "text/plain", "digest": str(blobs.add(b"sbom %d" % at)), "size": 6} for at in range(count)]
    _attached(layout, blobs, version, registry, layers, "application/spdx+json")
    other = open_registry(Settings(tmp_path / "elsewhere", "somebody"), create=True)

    copied = transfer.copy_in(other, "imported", blobs, index)

    assert copied.version is not None
    assert copied.statements == 3
    said = browse.show(other, copied.version)
    assert said["description"] is not None
    assert any(found["kind"] == "application/spdx+json" for found in said["statements"])
    assert browse.list_versions(other, "imported")["versions"][0]["summary"]["parameters"] == 6


def test_more_statements_than_fit_into_memory_are_refused(
    push, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    version = push(model).version
    transfer.copy_out(registry, version, blobs, index, tag="v1")
    other = open_registry(Settings(tmp_path / "elsewhere", "somebody"), create=True)
    monkeypatch.setattr("assay.service.transfer.places.MOST_TOLD", 1000)

    with pytest.raises(StorageError, match="says more than 1,000 bytes") as caught:
        transfer.copy_in(other, "imported", blobs, index)

    assert caught.value.code == "place-odd"
    assert other.catalog.version("imported") is None
