"""OCI image layouts that other tools write into as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.errors import IntegrityError
from assay.remote.oci_index import INDEX_TYPE, REF_NAME
from assay.remote.oci_layout import OciLayoutIndex
from assay.spec.digest import Digest
from assay.spec.json import canonical
from assay.spec.manifest import MANIFEST_TYPE, Manifest

EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
STATEMENT = "application/vnd.assay.statement.metrics.v1+json"


class Layout:
    def __init__(self, root: Path) -> None:
        self.root, self.store = root, DirectoryStore(root)
        self.index = OciLayoutIndex(root, self.read, self.store.add)

    def read(self, digest: Digest) -> bytes:
        data = self.store.open(digest).read(0, 1 << 20)
        if Digest.of(data) != digest:
            raise IntegrityError(f"{digest} is damaged")
        return data

    def listed(self) -> list[dict]:
        return json.loads((self.root / "index.json").read_text())["manifests"]

    def change(self, **fields: object) -> None:
        file = self.root / "index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def manifest(name: str, **more: object) -> Manifest:
    layer = {"mediaType": "application/octet-stream", "digest": str(Digest.of(name.encode())), "size": len(name)}
    body = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": EMPTY, "layers": [layer], **more}
    return Manifest.parse(canonical(body))


def entry(data: bytes, media_type: str = MANIFEST_TYPE, /, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def test_what_other_tools_wrote_into_the_index_stays_as_they_wrote_it(layout: Layout) -> None:
    layout.index.put(manifest("ours"), tag="v1")
    theirs = entry(
        b"theirs",
        platform={"os": "linux", "architecture": "arm64"},
        urls=["https://example.org/blob"],
        data="dGhlaXJz",
        annotations={REF_NAME: "arm"},
    )
    layout.change(annotations={"team": "x"}, manifests=[*layout.listed(), theirs])

    layout.index.put(manifest("more"), tag="v2")
    layout.index.put(manifest("newer"), tag="v1")

    body = json.loads((layout.root / "index.json").read_text())
    assert body["annotations"] == {"team": "x"}
    assert theirs in body["manifests"]
    assert {tag: found.digest for tag, found in layout.index.tags().items()} == {
        "v1": manifest("newer").digest,
        "v2": manifest("more").digest,
        "arm": Digest.of(b"theirs"),
    }


def test_a_statement_that_is_put_again_without_a_tag_keeps_the_tag_that_it_had(layout: Layout) -> None:
    for tag in ("v1", None, None):
        layout.index.put(manifest("statement"), tag=tag)
    assert [found["annotations"].get(REF_NAME) for found in layout.listed()] == ["v1"]


def test_an_index_within_the_index_and_manifests_of_others_that_are_damaged_hide_no_statement(layout: Layout) -> None:
    subject = manifest("subject")
    layout.index.put(subject, tag="v1")
    said = manifest(
        "said", artifactType=STATEMENT, subject={"mediaType": MANIFEST_TYPE, "digest": str(subject.digest), "size": 9}
    )
    layout.index.put(said)
    nested = canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []})
    layout.store.add(nested)
    damaged = layout.store.path(layout.store.add(b"{}"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"no")
    layout.change(manifests=[entry(nested, INDEX_TYPE), entry(b"{}"), entry(b"gone"), *layout.listed()])

    assert [found.digest for found in layout.index.referrers(subject.digest)] == [said.digest]

    file = layout.store.path(said.digest)
    file.chmod(0o644)
    file.write_bytes(bytes(len(said.data)))
    with pytest.raises(IntegrityError):
        layout.index.referrers(subject.digest)
