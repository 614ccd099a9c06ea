"""safetensors, GGUF and numpy files that lie about themselves; and their honest twins."""

from __future__ import annotations

import io
import json
import struct
import time
from typing import Any

import numpy as np
import pytest
from bounds import HANG
from hostile_archives import PRINTS, Entry, zip_of

from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree


def found(name: str, data: bytes, **more: bytes) -> list[Finding]:
    tree = Tree.of({name: data, **more})
    inspection = inspect(tree, all_formats())
    findings = [finding for finding in inspection.all_findings if finding.severity is not Severity.NOTE]
    if inspection.unknown:
        findings.append(Finding("file-unknown", Severity.INCOMPLETE, "nobody knows it", name))
    return findings


def rules(name: str, data: bytes, **more: bytes) -> set[str]:
    return {finding.rule for finding in found(name, data, **more)}


# --- safetensors ---


def safetensors(header: Any, data: bytes = bytes(16), *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(begin: int = 0, end: int = 16, dtype: str = "F32", shape: Any = (4,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        safetensors({"w": tensor()}),
        safetensors({"__metadata__": {"format": "pt", "note": "import os; os.system"}, "w": tensor()}),
        safetensors(json.dumps({"w": tensor()}).encode() + b" " * 7),
        safetensors({"a": tensor(0, 8, shape=(2,)), "b": tensor(8, 16, shape=(2,)), "c": tensor(16, 16, shape=(0,))}),
        safetensors({"w": tensor(0, 4, shape=())}, bytes(4)),
        safetensors({}, b""),
        safetensors(json.dumps({"w": tensor()}).encode() + b" " * 100_000),
    ],
)
def test_honest_safetensors_have_no_finding_above_a_note(data: bytes) -> None:
    assert rules("m.safetensors", data) == set()


TWICE = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}'
INNER = b'{"w":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}'
META = b'{"__metadata__":{"format":"pt","format":"np"},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
METAS = b'{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (safetensors({"w": tensor()}, length=100_000_001), "safetensors-unreadable"),
        (safetensors({"w": tensor()}, length=2**63), "safetensors-unreadable"),
        (safetensors({"w": tensor()}, length=5000), "safetensors-unreadable"),
        (safetensors({"w": tensor(4, 16, shape=(3,))}), "safetensors-hole"),
        (safetensors({"a": tensor(), "b": tensor()}), "safetensors-overlap"),
        (safetensors({"a": tensor(0, 12, shape=(3,)), "b": tensor(8, 16, shape=(2,))}), "safetensors-overlap"),
        (safetensors({"w": tensor(16, 0)}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(0, 32, shape=(8,))}), "safetensors-outside-data"),
        (safetensors({"w": tensor(-16, 0)}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(2**64, 2**64 + 16)}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=(2**62, 4, 4))}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=(2**32, 2**32, 2**32))}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=(2**63, 2, 0))}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=(5,))}), "safetensors-size-mismatch"),
        (safetensors({"w": tensor(shape=(-4,))}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=[4.0])}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(shape=[True, 4])}), "safetensors-bad-tensor"),
        (safetensors({"w": tensor(dtype="F31")}), "safetensors-unknown-dtype"),
        (safetensors({"w": [1]}), "safetensors-bad-tensor"),
        (safetensors({"w": {"dtype": "F32"}}), "safetensors-bad-tensor"),
        (safetensors(TWICE), "safetensors-duplicate-key"),
        (safetensors(INNER), "safetensors-duplicate-key"),
        (safetensors(META), "safetensors-duplicate-key"),
        (safetensors(METAS), "safetensors-duplicate-key"),
        (safetensors({"__metadata__": {"a": {"b": "c"}}, "w": tensor()}), "safetensors-bad-metadata"),
        (safetensors({"__metadata__": "x", "w": tensor()}), "safetensors-bad-metadata"),
        (safetensors({"w": tensor()}, bytes(16) + PRINTS), "safetensors-trailing-bytes"),
        (safetensors({"w": {**tensor(), "more": 1}}), "safetensors-unknown-field"),
        (safetensors(json.dumps({"w": tensor()}).encode() + b"\0" * 8), "safetensors-unreadable"),
        (safetensors(json.dumps({"w": tensor()}).encode() + PRINTS), "safetensors-unreadable"),
        (safetensors(b" " + json.dumps({"w": tensor()}).encode()), "safetensors-unreadable"),
        (safetensors(b'{"\xff":' + json.dumps(tensor()).encode() + b"}"), "safetensors-unreadable"),
        (safetensors(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "safetensors-unreadable"),
        (safetensors(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'), "safetensors-bad-tensor"),
        (b"\0" + safetensors({"w": tensor()}), "file-unknown"),
        (b"", "file-unknown"),
    ],
)
def test_safetensors_that_lie_are_found(data: bytes, rule: str) -> None:
    begun = time.process_time()
    got = rules("m.safetensors", data)
    assert time.process_time() - begun < HANG
    assert rule in got or (rule == "safetensors-unreadable" and "file-unknown" in got), got


@pytest.mark.parametrize(
    "shard", ["../m.safetensors", "/etc/x", "a/../../m", "C:\\m", "..\\m", "//s/m", "m\0", "https://x/m"]
)
def test_an_index_that_leaves_its_folder_is_found(shard: str) -> None:
    index = json.dumps({"weight_map": {"v": shard, "w": "m.safetensors"}}).encode()
    name = "model.safetensors.index.json"
    files = {"m.safetensors": safetensors({"w": tensor()})}
    assert "safetensors-path-escape" in rules(name, index, **files)
    honest = json.dumps({"weight_map": {"w": "m.safetensors"}}).encode()
    assert rules(name, honest, **files) == set()


# --- GGUF ---


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(
    name: bytes = b"w", sizes: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0, rank: int | None = None
) -> bytes:
    ranks = struct.pack("<I", len(sizes) if rank is None else rank)
    return text(name) + ranks + struct.pack(f"<{len(sizes)}Q", *sizes) + struct.pack("<IQ", kind, offset)


NAME = pair(b"general.architecture", 8, text(b"llama"))


def gguf(
    pairs: tuple[bytes, ...] = (NAME,),
    infos: tuple[bytes, ...] = (info(),),
    data: bytes = bytes(32),
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    fill: bytes = b"\0",
    alignment: int = 32,
) -> bytes:
    tensors, values = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, values) + b"".join(pairs) + b"".join(infos)
    return head + fill * (-len(head) % alignment) + data


@pytest.mark.parametrize(
    "data",
    [
        gguf(),
        gguf((NAME, pair(b"general.alignment", 4, struct.pack("<I", 64))), alignment=64, data=bytes(64)),
        gguf(infos=(info(b"a"), info(b"b", offset=32)), data=bytes(64)),
        gguf(infos=(info(b"a"), info(b"b", offset=32)), data=bytes(48)),
        gguf((NAME, pair(b"list", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b")))),
    ],
)
def test_honest_gguf_files_have_no_finding_above_a_note(data: bytes) -> None:
    assert rules("m.gguf", data) == set()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (gguf(version=4), "gguf-unreadable"),
        (gguf(counts=(1, 2**62)), "gguf-unreadable"),
        (gguf(counts=(2**64 - 1, 1)), "gguf-unreadable"),
        (gguf(counts=(3, 1)), "gguf-duplicate-tensor"),
        (gguf((NAME, struct.pack("<Q", 2**63) + b"x")), "gguf-"),
        (gguf((NAME, pair(b"a", 99, bytes(8)))), "gguf-bad-header"),
        (gguf((NAME, pair(b"a", 9, struct.pack("<IQ", 4, 2**61)))), "gguf-bad-header"),
        (gguf((NAME, pair(b"a", 9, struct.pack("<IQ", 9, 1) * 5000))), "gguf-bad-header"),
        (gguf((NAME, NAME)), "gguf-duplicate-key"),
        (gguf(infos=(info(), info(offset=0))), "gguf-duplicate-tensor"),
        (gguf(infos=(info(b"a"), info(b"b"))), "gguf-overlap"),
        (gguf(infos=(info(b"a"), info(b"b", offset=96)), data=bytes(128)), "gguf-hole"),
        (gguf(infos=(info(offset=2**63),)), "gguf-outside-file"),
        (gguf(infos=(info(offset=2**64 - 32),)), "gguf-outside-file"),
        (gguf(infos=(info(sizes=(2**32, 2**32)),)), "gguf-bad-tensor"),
        (gguf(infos=(info(sizes=(2**62, 4)),)), "gguf-bad-tensor"),
        (gguf(infos=(info(sizes=(2**61, 2)),)), "gguf-outside-file"),
        (gguf(infos=(info(sizes=(2**63 + 4,)),)), "gguf-bad-tensor"),
        (gguf(infos=(info(sizes=(2**63, 0)),)), "gguf-bad-tensor"),
        (gguf(infos=(info(sizes=(400,)),)), "gguf-outside-file"),
        (gguf(infos=(info(kind=200),)), "gguf-unknown-type"),
        (gguf(infos=(info(sizes=(7,), kind=2),)), "gguf-bad-tensor"),
        (gguf(infos=(info(rank=4_000_000_000),)), "gguf-bad-header"),
        (gguf(infos=(info(offset=1),), data=bytes(64)), "gguf-misaligned"),
        (gguf((NAME, pair(b"general.alignment", 4, struct.pack("<I", 0)))), "gguf-bad-alignment"),
        (gguf((NAME, pair(b"general.alignment", 4, struct.pack("<I", 33)))), "gguf-bad-alignment"),
        (gguf((NAME, pair(b"general.alignment", 8, text(b"32")))), "gguf-bad-alignment"),
        (gguf(data=bytes(32) + PRINTS), "gguf-trailing-bytes"),
        (gguf(fill=b"x"), "gguf-padding"),
        (gguf(data=bytes(16) + b"c" * 16), "gguf-padding"),
        (gguf((NAME, pair(b"general.alignment", 4, struct.pack("<I", 1 << 20))), alignment=1 << 20), "gguf-padding"),
        (gguf()[:-40], "gguf-outside-file"),
        (gguf()[:60], "gguf-"),
    ],
)
def test_gguf_files_that_lie_are_found(data: bytes, rule: str) -> None:
    begun = time.process_time()
    got = rules("m.gguf", data)
    assert time.process_time() - begun < HANG
    assert any(name.startswith(rule) for name in got), got


# --- numpy ---


def npy(array: Any = None, **fields: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(6, dtype="<f4").reshape(2, 3) if array is None else array, **fields)
    return out.getvalue()


def written(header: str, data: bytes = bytes(24), *, version: bytes = b"\1\0", length: int | None = None) -> bytes:
    raw = header.encode()
    size = struct.pack("<H" if version[0] == 1 else "<I", len(raw) if length is None else length)
    return b"\x93NUMPY" + version + size + raw + data


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
RECORD = np.zeros(2, [("a", "<f4"), ("b", "<i8", (2,))])


@pytest.mark.parametrize(
    "data",
    [
        npy(),
        npy(np.asfortranarray(np.zeros((2, 3)))),
        npy(np.array(1.5)),
        npy(np.zeros((0, 3))),
        npy(RECORD),
        npy(np.array(["a", "b"])),
        npy(np.zeros(2, ">i2")),
        npy(np.array(["2026-01-01"], "M8[D]")),
        written(PLAIN, version=b"\2\0"),
        written(PLAIN, version=b"\3\0"),
    ],
)
def test_honest_numpy_files_have_no_finding_above_a_note(data: bytes) -> None:
    assert rules("m.npy", data) == set()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (written(PLAIN, bytes(20)), "npy-truncated"),
        (written(PLAIN, bytes(24) + PRINTS), "npy-trailing-bytes"),
        (written(PLAIN.replace("(2, 3)", "(2, -3)")), "npz-unreadable"),
        (written(PLAIN.replace("(2, 3)", "(4294967296, 4294967296)")), "npz-unreadable"),
        (written(PLAIN.replace("(2, 3)", "(9223372036854775807, 3)")), "npz-unreadable"),
        (written(PLAIN.replace("(2, 3)", "[2, 3]")), "npz-unreadable"),
        (written(PLAIN.replace("(2, 3)", "(True, 6)")), "npz-unreadable"),
        (written(PLAIN.replace("'<f4'", "__import__('os')")), "npz-unreadable"),
        (written(PLAIN.replace("'<f4'", "'<f4' + '1'")), "npz-unreadable"),
        (written("(" * 3000 + ")" * 3000), "npz-unreadable"),
        (written(PLAIN.replace("False", "1")), "npz-unreadable"),
        (written(PLAIN.replace("'shape'", "'shaqe'")), "npz-unreadable"),
        (written(PLAIN.replace("}", "'more': 1}")), "npz-unreadable"),
        (written(PLAIN.replace("{", "{'shape': (1,), ")), "npz-unreadable"),
        (written(PLAIN, length=60_000), "npz-unreadable"),
        (written(PLAIN, version=b"\2\0", length=4_000_000_000), "npz-unreadable"),
        (written(PLAIN, version=b"\x09\0"), "file-unknown"),
    ],
)
def test_numpy_files_that_lie_are_found(data: bytes, rule: str) -> None:
    begun = time.process_time()
    got = rules("m.npy", data)
    assert time.process_time() - begun < HANG
    assert rule in got, got


OBJECT_TYPES = [
    "'|O'",
    "[('a', '<f4'), ('b', '|O')]",
    "[('a', [('b', '|O')])]",
    "('|O', (2,))",
    "[('a', ('|O', (2,)))]",
]


@pytest.mark.parametrize("dtype", OBJECT_TYPES)
def test_objects_however_deep_in_the_type_of_an_array_run_code(dtype: str) -> None:
    data = written(PLAIN.replace("'<f4'", dtype), b"\x80\x02" + PRINTS)
    assert Severity.EXECUTE in {finding.severity for finding in found("m.npy", data)}
    archive = zip_of([Entry(b"a.npy", npy()), Entry(b"b.npy", data, method=8)])
    assert Severity.EXECUTE in {finding.severity for finding in found("m.npz", archive)}


def test_archives_of_arrays() -> None:
    honest = zip_of([Entry(b"a.npy", npy()), Entry(b"b.npy", npy(), method=8)])
    assert rules("m.npz", honest) == set()
    hostile = [
        ([Entry(b"a.npy", npy()), Entry(b"a.npy", npy(np.zeros(1)))], "zip-duplicate-member"),
        ([Entry(b"a.npy", npy()), Entry(b"b.npy", PRINTS)], "npz-bad-array"),
        ([Entry(b"a.npy", npy()), Entry(b"b", PRINTS)], "file-unknown"),
        ([Entry(b"a.npy", npy(), local_name=b"b.npy")], "zip-header-mismatch"),
    ]
    for entries, rule in hostile:
        assert rule in rules("m.npz", zip_of(entries)), rule
