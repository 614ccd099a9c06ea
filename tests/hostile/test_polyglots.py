"""Files that are two things at once, or another thing than their name says; and honest oddities."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hostile_archives import PRINTS, Entry, state_dict, tar_of, zip_of

from assay.audit.polyglots import PolyglotsAuditor
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Severity
from assay.trees import Tree

ELF = b"\x7fELF\2\1\1" + bytes(57)
PORTABLE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(64)
SCRIPT = b"#!/bin/sh\necho inert\n"
PICKLE = pickle.dumps({"w": [1.0]}, 4)
ZIP = zip_of([Entry(b"x", b"x")])


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(4, "<f4"))
    return out.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def gguf() -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<II", 4, 7)


JPEG = b"\xff\xd8\xff\xe0" + bytes(64) + b"\xff\xd9"
WEBP = b"RIFF" + struct.pack("<I", 20) + b"WEBPVP8 " + bytes(12)


def found(data: bytes, name: str) -> set[tuple[str, Severity]]:
    tree = Tree.of({name: data})
    findings = PolyglotsAuditor().audit(tree, inspect(tree, all_formats()))
    return {(finding.rule, finding.severity) for finding in findings if finding.severity is not Severity.NOTE}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.pth.tar", zip_of(state_dict())),
        ("pytorch_model.bin", zip_of(state_dict())),
        ("model.bin", PICKLE),
        ("weights.bin", bytes(range(256)) * 8),
        ("model.model", ZIP),
        ("model.pbz", PICKLE),
        ("data.dat", PICKLE),
        ("vocab.txt", b"MZ\n[PAD]\n[UNK]\n"),
        ("vocab.txt", b"I\n.\nyou\n"),
        ("merges.txt", b"#version: 0.2\nt h\n"),
        ("README.md", b"#!/usr/bin/env python\nstarts like this\n"),
        ("run.sh", SCRIPT),
        ("libx.so", ELF),
        ("a.safetensors", safetensors()),
        ("a.npy", npy()),
        ("a.png", png()),
        ("a.jpg", JPEG),
        ("a.webp", WEBP),
        ("a.gguf", gguf()),
        ("a.jpg", JPEG + b"\0\0 made by a camera"),
        ("pack.tar", tar_of(("a", b"x"))),
        ("pack.tar", tar_of(("in.zip", ZIP))),
        ("a.zip", ZIP),
        ("empty.bin", b""),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(600)),
        ("a.mat", b"MATLAB 7.0 MAT-file".ljust(512, b" ") + b"\x89HDF\r\n\x1a\n" + bytes(600)),
        ("model.mlmodel", b"\x08\x04\x12\x10" + bytes(40)),
        ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(100) + zip_of([Entry(b"labels.txt", b"cat\ndog")])),
    ],
)
def test_honest_oddities_are_left_alone(name: str, data: bytes) -> None:
    assert found(data, name) == set()


@pytest.mark.parametrize("suffix", ["safetensors", "gguf", "onnx", "bin", "pt", "png", "json", "h5", "pkl"])
@pytest.mark.parametrize("data", [ELF, PORTABLE, SCRIPT, b"\xcf\xfa\xed\xfe" + bytes(60), b"\0asm\1\0\0\0" + bytes(60)])
def test_a_program_named_as_data_is_found(suffix: str, data: bytes) -> None:
    assert ("polyglot-program", Severity.EXECUTE) in found(data, f"model.{suffix}")


@pytest.mark.parametrize("suffix", ["safetensors", "gguf", "onnx", "json", "txt", "h5", "npy", "png", "tflite"])
@pytest.mark.parametrize("data", [PICKLE, pickle.dumps(1.5, 2), PRINTS, zip_of(state_dict())])
def test_a_pickle_or_zip_named_as_something_else_is_found(suffix: str, data: bytes) -> None:
    assert ("polyglot-name", Severity.MISLEAD) in found(data, f"model.{suffix}")


APPENDED: list[Any] = [
    PICKLE,
    ZIP,
    ELF,
    SCRIPT,
    PRINTS,
    gzip.compress(PICKLE, mtime=0),
    b"\0" * 8 + PICKLE,
    zip_of(state_dict()),
]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.safetensors", safetensors()),
        ("a.npy", npy()),
        ("a.png", png()),
        ("a.jpg", JPEG),
        ("a.webp", WEBP),
        ("a.gguf", gguf()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("more", APPENDED, ids=lambda data: hex(zlib.crc32(data)))
def test_something_behind_the_end_of_a_format_is_found(name: str, data: bytes, more: bytes) -> None:
    rules = {rule for rule, _ in found(data + more, name)}
    assert rules & {"polyglot-appended", "polyglot-zip"}


@pytest.mark.parametrize("head", [PICKLE, b"GIF89a" + bytes(40), b"\x08\x07\x12\x04onnx", ELF, bytes(2000)])
def test_a_zip_behind_anything_is_found(head: bytes) -> None:
    for data in (head + zip_of(state_dict()), zip_of(state_dict(), prefix=head, counted=True)):
        assert ("polyglot-zip", Severity.MISLEAD) in found(data, "thing")


@pytest.mark.parametrize("start", [b"PK\3\4", b"GGUF", b"\x7fELF\2\1\1", b"\x80\x04", b"\x93NUMPY\1"])
def test_a_tar_that_begins_like_another_format_is_found(start: bytes) -> None:
    data = bytearray(tar_of(("name" * 20, b"x")))
    data[: len(start)] = start
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert ("polyglot-tar", Severity.MISLEAD) in found(bytes(data), "thing.bin")


@pytest.mark.parametrize("place", [512, 1024, 8192])
def test_an_hdf5_file_behind_something_else_is_found(place: int) -> None:
    data = PICKLE.ljust(place, b"x") + b"\x89HDF\r\n\x1a\n" + bytes(100)
    assert ("polyglot-hdf5", Severity.MISLEAD) in found(data, "thing.bin")
    assert found(bytes(512) + data[place:], "weights.bin") == set()
