"""Tags, manifests and referrers of a repository, with and without the registry's list of referrers."""

from __future__ import annotations

import json

import pytest
from small_registry import INDEX, State

from assay.errors import BadFormat, IntegrityError, NotFound
from assay.remote.oci_registry import RegistryIndex
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import MANIFEST_TYPE, Entry, Manifest, build

MODEL, _ = build([Entry("model.bin", Digest.of(b"weights"), 7)])


def statement(note: str) -> Manifest:
    body = json.loads(MODEL.data)
    body["subject"] = {"mediaType": MANIFEST_TYPE, "digest": str(MODEL.digest), "size": len(MODEL.data)}
    body["artifactType"] = f"application/vnd.test.{note}"
    return Manifest.parse(json.dumps(body).encode())


def test_a_tag_is_found_with_its_manifest(index: RegistryIndex, state: State) -> None:
    index.put(MODEL, tag="v1")

    found = index.tags()["v1"]
    assert (found.digest, found.size, found.media_type) == (MODEL.digest, len(MODEL.data), MANIFEST_TYPE)
    assert index.read(found).data == MODEL.data
    assert index.tags().get("v2") is None
    state.sends_digests = False
    assert index.tags()["v1"].digest == MODEL.digest


def test_a_digest_counts_as_a_tag(index: RegistryIndex) -> None:
    index.put(MODEL)

    assert index.tags()[str(MODEL.digest)].digest == MODEL.digest


def test_every_page_of_the_tags_is_read_and_lists_of_referrers_are_no_tags(index: RegistryIndex, state: State) -> None:
    state.referrers = False
    for tag in "abcde":
        index.put(MODEL, tag=tag)
    index.put(statement("note"))

    assert len(state.tags) == 6
    assert list(index.tags()) == list("abcde")
    assert len(index.tags()) == 5


def test_a_repository_that_is_not_there_has_no_tags(index: RegistryIndex) -> None:
    assert list(index.tags()) == []


@pytest.mark.parametrize("listed", [True, False])
def test_what_refers_to_a_manifest_is_found(index: RegistryIndex, state: State, listed: bool) -> None:
    state.referrers = listed
    index.put(MODEL, tag="v1")
    said = [statement("note"), statement("metrics")]
    for one in [*said, said[0]]:
        index.put(one)

    assert {one.digest for one in index.referrers(MODEL.digest)} == {one.digest for one in said}
    assert len(index.referrers(MODEL.digest)) == 2
    assert (len(state.tags) == 2) is not listed
    assert index.referrers(Digest.of(b"other")) == []


def test_two_who_list_referrers_at_once_lose_none(index: RegistryIndex, state: State) -> None:
    state.referrers = False
    first, second = statement("first"), statement("second")
    tag = f"sha256-{MODEL.digest.hex}"
    overwritten = []

    def other(method: str, path: str, before: int) -> None:
        if method == "GET" and path.endswith(tag) and len(overwritten) == 1:
            # Between our writing and our looking, somebody else wrote what they had read before.
            data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(second)]}).encode()
            digest = str(Digest.of(data))
            state.manifests["team/model", digest] = data, INDEX
            state.tags["team/model", tag] = digest
            overwritten.append(path)
        if method == "PUT" and path.endswith(tag):
            overwritten.append(path)

    state.fault = other
    index.put(first)

    assert {one.digest for one in index.referrers(MODEL.digest)} == {first.digest, second.digest}


def described(manifest: Manifest) -> dict:
    return Descriptor(MANIFEST_TYPE, manifest.digest, len(manifest.data)).to_json()


def test_a_manifest_that_is_not_there_or_not_what_was_asked_for_is_told(index: RegistryIndex, state: State) -> None:
    wanted = Descriptor(MANIFEST_TYPE, MODEL.digest, len(MODEL.data))
    with pytest.raises(NotFound) as caught:
        index.read(wanted)
    assert caught.value.code == "blob-missing"
    state.manifests["team/model", str(MODEL.digest)] = MODEL.data + b" ", MANIFEST_TYPE

    with pytest.raises(IntegrityError):
        index.read(wanted)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"manifests": [3]}', b'{"manifests": 3}'])
def test_a_list_of_referrers_in_another_form_is_told(index: RegistryIndex, state: State, body: bytes) -> None:
    state.referrers = False
    state.manifests["team/model", "sha256:x"] = body, INDEX
    state.tags["team/model", f"sha256-{MODEL.digest.hex}"] = "sha256:x"

    with pytest.raises(BadFormat):
        index.referrers(MODEL.digest)
