"""Builders of TensorFlow's file layouts, byte by byte: hostile ones cannot be had from TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

MAGIC = 0xDB4775248B80FB57

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "string": 7, "int64": 9, "bfloat16": 14}


def varint(value: int) -> bytes:
    """A base-128 varint; negative numbers in 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def proto(*fields: tuple[int, Any]) -> bytes:
    """A protobuf message of (number, int | bytes | str) fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def shape(*sizes: int) -> bytes:
    """A TensorShapeProto."""
    return proto(*((2, proto((1, size))) for size in sizes))


def _block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    out, last = b"", b""
    for key, value in pairs:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1)


def _snappy(data: bytes) -> bytes:
    out = varint(len(data))
    for at in range(0, len(data), 60):
        piece = data[at : at + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return out


def table(
    pairs: Mapping[bytes, bytes], *, snappy: bool = False, compression: int | None = None, repeat: int = 1
) -> bytes:
    """A sorted string table with two entries per block; *repeat* lists each block so many times in the index."""
    items = sorted(pairs.items())
    out, index = b"", []
    kind = (1 if snappy else 0) if compression is None else compression
    for at in range(0, len(items), 2):
        block = _block(items[at : at + 2])
        block = _snappy(block) if snappy else block
        index += [(items[min(at + 1, len(items) - 1)][0], varint(len(out)) + varint(len(block)))] * repeat
        out += block + bytes([kind]) + bytes(4)
    handles = []
    for block in (_block([]), _block(index)):
        handles.append(varint(len(out)) + varint(len(block)))
        out += block + b"\0" + bytes(4)
    return out + b"".join(handles).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def entry(dtype: str, sizes: tuple[int, ...], offset: int, size: int, *, shard: int = 0, sliced: bool = False) -> bytes:
    """A BundleEntryProto."""
    fields: list[tuple[int, Any]] = [(1, DTYPES[dtype]), (2, shape(*sizes)), (3, shard), (4, offset), (5, size)]
    return proto(*fields, *([(7, b"")] if sliced else []))


def bundle(tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], *, shards: int = 1) -> tuple[bytes, bytes]:
    """Index and first data shard of a bundle: name to (dtype, shape, bytes)."""
    data, pairs = b"", {b"": proto((1, shards), (3, proto((1, 1))))}
    for name, (dtype, sizes, raw) in sorted(tensors.items()):
        pairs[name.encode()] = entry(dtype, sizes, len(data), len(raw))
        data += raw
    return table(pairs), data


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A NodeDef; attributes are encoded AttrValues."""
    fields: list[tuple[int, Any]] = [(1, name), (2, op), *((3, item) for item in inputs)]
    return proto(*fields, *((5, proto((1, key), (2, value))) for key, value in attributes.items()))


def constant(dtype: str, sizes: tuple[int, ...], content: bytes) -> bytes:
    """The value attribute of a constant."""
    return proto((8, proto((1, DTYPES[dtype]), (2, shape(*sizes)), (4, content))))


def graph(*nodes: bytes, functions: Mapping[str, list[bytes]] | None = None) -> bytes:
    """A GraphDef."""
    library = [
        (1, proto((1, proto((1, name))), *((3, item) for item in items))) for name, items in (functions or {}).items()
    ]
    return proto(*((1, item) for item in nodes), *([(2, proto(*library))] if library else []))


def signature(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]], outputs: Mapping[str, tuple[str, tuple[int, ...]]]
) -> bytes:
    """A SignatureDef."""
    sides = [
        (number, proto((1, name), (2, proto((1, f"{name}:0"), (2, DTYPES[dtype]), (3, shape(*sizes))))))
        for number, ports in ((1, inputs), (2, outputs))
        for name, (dtype, sizes) in ports.items()
    ]
    return proto(*sides, (3, "tensorflow/serving/predict"))


def meta_graph(graph_def: bytes, *, tags: tuple[str, ...] = ("serve",), version: str = "2.9.1", **more: Any) -> bytes:
    """A MetaGraphDef; ``signatures``, ``objects``, ``assets`` (tensor to file name) and ``saver`` (a tensor) may be given."""
    info = proto(*((4, tag) for tag in tags), (5, version), (6, "v2.9.1-git"))
    signatures = [(5, proto((1, name), (2, value))) for name, value in more.get("signatures", {}).items()]
    objects = [(7, more["objects"])] if "objects" in more else []
    assets = [(6, proto((1, proto((1, name))), (2, file))) for name, file in more.get("assets", {}).items()]
    saver = [(3, proto((1, more["saver"])))] if "saver" in more else []
    return proto((1, info), (2, graph_def), *saver, *signatures, *assets, *objects)


def saved_model(*metas: bytes) -> bytes:
    """A SavedModel message."""
    return proto((1, 1), *((2, meta) for meta in metas))
