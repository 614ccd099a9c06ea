"""Digests, references, paths and statements parse, print and refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.json import canonical
from assay.spec.kinds import KINDS, kind_of, model_format
from assay.spec.manifest import Entry, build
from assay.spec.paths import check_path
from assay.spec.reference import Reference
from assay.spec.statement import Statement

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
WORD = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(lambda text: len(text) < 40)


@given(HEX)
def test_a_digest_prints_what_it_parsed(digits: str) -> None:
    assert str(Digest.parse(f"sha256:{digits}")) == f"sha256:{digits}"


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256:" + "0" * 63]
)
def test_what_is_not_a_digest_is_refused_with_its_code(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Digest.parse(text)

    assert caught.value.code == "invalid-digest"


@given(
    st.lists(WORD, min_size=1, max_size=4), st.one_of(st.none(), st.integers(1, 10**9).map(str), st.just("champion"))
)
def test_a_reference_prints_what_it_parsed(words: list[str], label: str | None) -> None:
    text = "/".join(words) + (f":{label}" if label else "")
    parsed = Reference.parse(text)

    assert str(parsed) == text
    assert (parsed.version is not None) == (label is not None and label.isdigit())


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("localhost/fraud/churn", "localhost", "fraud/churn"),
        ("registry.example.org/fraud", "registry.example.org", "fraud"),
        ("box:5000/fraud:3", "box:5000", "fraud"),
        ("fraud/churn:3", None, "fraud/churn"),
    ],
)
def test_a_first_component_with_a_dot_or_a_port_is_a_host(text: str, host: str | None, name: str) -> None:
    parsed = Reference.parse(text)

    assert (parsed.host, parsed.name) == (host, name)


@pytest.mark.parametrize(
    "text", ["", "Fraud", "a b", "a//b", "a:", "a:0", "a:-x", "a@sha256:1", "ünï", "a/", "../a", "a:b c"]
)
def test_what_is_not_a_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Reference.parse(text)


def test_a_refused_name_comes_with_one_that_works() -> None:
    with pytest.raises(InvalidInput) as caught:
        Reference.parse("My Model")

    assert caught.value.hint == "try my-model"


@given(st.text(max_size=40))
def test_a_path_that_is_accepted_stays_inside_its_folder(text: str) -> None:
    try:
        check_path(text)
    except InvalidInput:
        return

    assert not text.startswith("/")
    assert ".." not in text.split("/")
    assert "\x00" not in text


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid UTF-8"):
        check_path(b"caf\xe9.bin".decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("model.safetensors", "weight"),
        ("pytorch_model.bin", "weight"),
        ("weights.bin/part", "weight"),
        ("no-suffix", "weight"),
        ("variables/variables.data-00000-of-00001", "weight"),
        ("config.json", "weight.config"),
        ("tokenizer.json", "weight.config"),
        ("vocab.txt", "weight.config"),
        ("MLmodel", "weight.config"),
        ("requirements.txt", "weight.config"),
        (".gitattributes", "weight.config"),
        ("modeling_x.py", "code"),
        ("lib/op.so", "code"),
        ("README.md", "doc"),
        ("LICENSE", "doc"),
        ("LICENSE.txt", "doc"),
        ("train.CSV", "dataset"),
    ],
)
def test_the_path_table_says_what_an_entry_is(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@given(st.text(min_size=1, max_size=30))
def test_every_path_has_a_kind(path: str) -> None:
    assert kind_of(path) in KINDS


def test_the_format_of_a_model_is_the_first_of_the_table_whatever_the_order() -> None:
    assert model_format(["a.onnx", "b.safetensors"]) == model_format(["b.safetensors", "a.onnx"]) == "safetensors"
    assert model_format(["README.md"]) is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: "\\ud" not in json.dumps(value))


@given(JSON)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value  # type: ignore[arg-type]


@given(
    st.dictionaries(st.text(max_size=8).filter(lambda text: "\\ud" not in json.dumps(text)), st.integers(), max_size=5)
)
def test_a_statement_reads_back_from_its_document(predicate: dict[str, int]) -> None:
    subject, _ = build([Entry("model.bin", Digest.of(b"x"), 1)])
    said = Statement(subject.digest, "params", {"params": predicate}, datetime(2026, 11, 23, tzinfo=UTC))

    assert Statement.parse(said.document(), created=said.created) == said
    manifest = said.manifest(len(subject.data))
    assert manifest.subject is not None
    assert manifest.subject.digest == subject.digest
    assert manifest.layers[0].digest == Digest.of(said.document())


def test_a_statement_of_somebody_else_keeps_its_own_predicate_type() -> None:
    subject = Digest.of(b"artifact")
    said = Statement(subject, "https://slsa.dev/provenance/v1", {"a": 1}, datetime(2026, 11, 23, tzinfo=UTC))

    assert Statement.parse(said.document(), created=said.created).kind == "https://slsa.dev/provenance/v1"


@pytest.mark.parametrize("document", [b"", b"[]", b'{"subject":[]}', b'{"subject":[{"digest":{}}]}', b"[" * 50_000])
def test_what_is_not_a_statement_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        Statement.parse(document, created=datetime.now(UTC))

    assert caught.value.code == "invalid-statement"
