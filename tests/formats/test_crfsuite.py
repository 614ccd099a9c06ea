"""CRFsuite models."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.formats.crfsuite import CRFSuiteFormat
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = CRFSuiteFormat()


def model(labels: tuple[str, ...] = ("B", "I"), *, features: int = 3, stated: int | None = None) -> bytes:
    """A model whose attribute tables are left empty."""
    weights = struct.pack("<4sII", b"FEAT", 12 + 20 * features, features) + bytes(20 * features)
    records, places = b"", []
    for index, label in enumerate(labels):
        places.append(24 + len(records))
        records += struct.pack("<II", index, len(label) + 1) + label.encode() + b"\0"
    names = struct.pack("<4s5I", b"CQDB", 0, 0, 0x62445371, len(labels), 24 + len(records)) + records
    names += struct.pack(f"<{len(places)}I", *places)
    size = 48 + len(weights) + len(names)
    count = len(labels) if stated is None else stated
    header = struct.pack("<4sI4s9I", b"lCRF", size, b"FOMC", 100, 0, count, 7, 48, 48 + len(weights), 0, 0, 0)
    return header + weights + names


def describe(data: bytes) -> Description:
    tree = Tree.of({"m": data})
    assert FORMAT.detect(tree) == [("m",)]
    return FORMAT.describe(tree, ("m",))


def test_a_model_says_counts_and_labels() -> None:
    found = describe(model())

    assert found.metadata == {"classes": 2, "attributes": 7, "features": 3, "class_names": ["B", "I"]}
    assert (found.parameters, found.format_version, found.findings) == (3, "100", ())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(model()[:-4], id="cut off"),
        pytest.param(model(stated=2**32 - 1), id="four billion labels"),
        pytest.param(
            model().replace(b"FEAT" + struct.pack("<II", 72, 3), b"FEAT\xff\xff\xff\xff\xff\xff\xff\xff"), id="features"
        ),
    ],
)
def test_lying_counts_are_incomplete(data: bytes) -> None:
    assert not describe(data).complete


@pytest.mark.parametrize("data", [b"", b"lCRF", b"lCRF" + bytes(100)])
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"m": data})) == []


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 160), st.binary(max_size=8), st.booleans())
def test_damaged_models_give_a_description_or_our_errors(at: int, patch: bytes, cut: bool) -> None:
    seed = model()
    tree = Tree.of({"m": seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])})
    for group in FORMAT.detect(tree):
        try:
            FORMAT.describe(tree, group)
        except AssayError:
            continue


@pytest.mark.real
def test_a_real_address_parser_is_described(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("usaddress==0.5.16", "usaddress/usaddr.crfsuite", "37ea2e93ece3")

    found = FORMAT.describe(Tree({"m": FileSource(file)}), ("m",))

    assert (found.metadata["classes"], found.metadata["attributes"], found.parameters) == (29, 1270, 2605)
    assert "StreetName" in str(found.metadata["class_names"])
    assert found.findings == ()


class TestCRFSuiteContract(FormatContract):
    def make_format(self) -> Format:
        return CRFSuiteFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": model()}
