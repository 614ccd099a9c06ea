"""Manifest profile 1: the identity that every release must keep."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.spec.digest import EMPTY, Digest
from assay.spec.manifest import ARTIFACT_TYPE, CONFIG_TYPE, FILEPATH, MAX_MANIFEST, TITLE, Entry, Manifest, build

# The closed ModelPack config schema, as field lists per level (CNCF model-spec, config-schema.json, main branch).
_FIELDS = {
    "": {"descriptor", "config", "modelfs"},
    "descriptor": {
        "createdAt", "authors", "vendor", "family", "title", "description", "version", "revision", "name",
        "docURL", "sourceURL", "datasetsURL", "licenses",
    },
    "config": {"architecture", "format", "paramSize", "precision", "quantization", "capabilities"},
    "modelfs": {"type", "diffIds"},
}  # fmt: skip
_LAYER_TYPES = {
    f"application/vnd.cncf.model.{kind}.v1.raw" for kind in ("weight", "weight.config", "doc", "code", "dataset")
}


def entry(path: str, content: bytes = b"x") -> Entry:
    return Entry(path, Digest.of(content), len(content))


GOLDEN_TREE = [
    entry("model.safetensors", b"weights"),
    entry("config.json", b"{}"),
    entry("1_Pooling/config.json", b"{}"),
    entry("README.md", b"# card"),
    entry("modeling.py", b"pass"),
    entry("data/train.parquet", b"rows"),
    entry(".gitattributes", b""),
    entry("tokenizer/日本語.model", b"spm"),
]


@pytest.mark.parametrize(
    ("entries", "digest"),
    [
        (
            GOLDEN_TREE,
            "sha256:0d56d907a7ff996999dd5c855bebf317137d423b3472e990d8db879c33accabe",
        ),
        (
            [entry("model.pkl", b"\x80\x04N.")],
            "sha256:883319834ad4fcb079dd8f30b5c20e044e3f5a359eb3c6d82ac3fb067ad879c6",
        ),
        (
            [entry("saved_model.pb", b"pb"), entry("variables/variables.index", b"i"), entry("empty", b"")],
            "sha256:2bb3bb98a07cbc353e1023ce5badd053243ddf585da13665f544f2a78243f501",
        ),
    ],
)
def test_the_same_files_give_the_same_manifest_digest_for_ever(entries: list[Entry], digest: str) -> None:
    manifest, _ = build(entries)

    assert str(manifest.digest) == digest


@given(st.permutations(GOLDEN_TREE))
def test_the_order_in_which_files_are_found_does_not_matter(entries: list[Entry]) -> None:
    assert build(entries)[0].data == build(GOLDEN_TREE)[0].data


def test_the_config_stays_within_the_closed_modelpack_schema() -> None:
    _, config = build(GOLDEN_TREE)
    body = json.loads(config)

    assert set(body) == _FIELDS[""]
    assert all(set(body[level]) <= _FIELDS[level] for level in ("descriptor", "config", "modelfs"))
    assert body["modelfs"]["type"] == "layers"
    assert body["config"] == {"format": "safetensors"}


def test_the_manifest_follows_modelpack_and_names_every_file_twice() -> None:
    manifest, config = build(GOLDEN_TREE)
    body = json.loads(manifest.data)

    assert body["artifactType"] == ARTIFACT_TYPE
    assert body["config"] == {"mediaType": CONFIG_TYPE, "digest": str(Digest.of(config)), "size": len(config)}
    assert {layer["mediaType"] for layer in body["layers"]} <= _LAYER_TYPES
    assert all(layer["annotations"][FILEPATH] == layer["annotations"][TITLE] for layer in body["layers"])
    assert "annotations" not in body
    diff_ids = json.loads(config)["modelfs"]["diffIds"]
    assert diff_ids == [layer["digest"] for layer in body["layers"]]


def test_layers_are_grouped_by_kind_and_sorted_by_path_inside() -> None:
    manifest, _ = build(GOLDEN_TREE)

    found = [(layer.media_type.split(".model.")[1], layer.annotations[FILEPATH]) for layer in manifest.layers]
    assert found == [
        ("weight.config.v1.raw", ".gitattributes"),
        ("weight.config.v1.raw", "1_Pooling/config.json"),
        ("weight.config.v1.raw", "config.json"),
        ("weight.v1.raw", "model.safetensors"),
        ("weight.v1.raw", "tokenizer/日本語.model"),
        ("code.v1.raw", "modeling.py"),
        ("doc.v1.raw", "README.md"),
        ("dataset.v1.raw", "data/train.parquet"),
    ]


def test_entries_come_back_as_they_went_in() -> None:
    manifest, _ = build(GOLDEN_TREE)

    assert manifest.entries() == tuple(sorted(GOLDEN_TREE, key=lambda item: item.path))
    assert Manifest.parse(manifest.data) == manifest


def test_an_empty_file_is_a_layer_of_no_bytes() -> None:
    manifest, _ = build([entry("empty.bin", b"")])

    assert manifest.layers[0].digest == EMPTY
    assert manifest.layers[0].size == 0


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        build([])

    assert caught.value.code == "empty-tree"


def test_a_tree_beyond_what_a_4_mib_manifest_holds_is_refused_with_the_way_out() -> None:
    ten_thousand = [entry(f"shard-{number:05}.bin") for number in range(10_000)]
    more = [entry(f"some/folder/shard-{number:05}.safetensors") for number in range(14_000)]

    assert len(build(ten_thousand)[0].data) <= MAX_MANIFEST
    with pytest.raises(InvalidInput) as caught:
        build(more)
    assert caught.value.code == "too-many-files"
    assert ".assayignore" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/x",
        "a/../b",
        "a//b",
        "a\\b",
        "c:/x",
        "con",
        "a/nul.txt",
        "a\x00b",
        "a\nb",
        "x" * 300,
        "",
        ".",
        "a\u202eb",
    ],
)
def test_a_hostile_file_name_in_a_manifest_is_refused(path: str) -> None:
    manifest, _ = build([entry("good")])
    hostile = Manifest.parse(manifest.data.replace(b'"good"', json.dumps(path, ensure_ascii=False).encode()))

    with pytest.raises(InvalidInput):
        hostile.entries()


@pytest.mark.parametrize(
    "paths", [("Model.bin", "model.bin"), ("é.txt", "e\u0301.txt"), ("a", "a/b"), ("A/b", "a"), ("straße", "STRASSE")]
)
def test_names_that_collide_on_some_file_system_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        build([entry(path) for path in paths])

    assert caught.value.code == "path-collision"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"schemaVersion":1}', b'{"schemaVersion":2,"layers":[]}', b"[" * 100_000, b"\xff"],
)
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        Manifest.parse(data)


def test_a_manifest_of_another_tool_is_read_with_legacy_names_and_unknown_fields() -> None:
    manifest, _ = build([entry("model.gguf")])
    body = json.loads(manifest.data)
    body["layers"][0]["annotations"] = {"org.cnai.model.filepath": "model.gguf"}
    body["layers"][0]["newField"] = 1
    body["annotations"] = {"org.cncf.modctl.modelfile": "FROM scratch"}

    read = Manifest.parse(json.dumps(body).encode())

    assert [found.path for found in read.entries()] == ["model.gguf"]
