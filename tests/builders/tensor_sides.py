"""Sides of a comparison made of arrays: written to disk, held in memory, or as if they had been pushed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay.artifact.collect import collect, tree_of
from assay.artifact.reader import Artifact
from assay.compare.sides import Compared, Options
from assay.compare.tensors import Tensors, compare_tensors
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.changes import TensorChange
from assay.streams.copying import digest_source
from assay.trees import Tree
from assay.wiring.looking import decode

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file."""
    header, at = {}, 0
    for name, array in tensors.items():
        end = at + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in tensors.values())
    return struct.pack("<Q", len(text)) + text + body


def of_tree(tree: Tree, *, pushed: bool = False, label: str = "./side") -> Compared:
    """A side of files wherever they lie; *pushed* ones are known by their digests."""
    artifact = Artifact(tree, inspect(tree, all_formats()), manifest=None, decode=decode)
    digests = {path: digest_source(tree.source(path)) for path in tree.paths} if pushed else {}
    return Compared(label=label, artifact=artifact, digests=digests)


def of_path(path: Path, *, pushed: bool = False) -> Compared:
    """A side of a file or folder on disk."""
    return of_tree(tree_of(collect(path, everything=True)), pushed=pushed, label=str(path))


def of_arrays(tensors: Mapping[str, np.ndarray], *, pushed: bool = False) -> Compared:
    """A side of arrays in memory."""
    return of_tree(Tree.of({"model.safetensors": safetensors(tensors)}), pushed=pushed)


def diffed(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], **options: object) -> Tensors:
    """What became of arrays."""
    return compare_tensors(of_arrays(old), of_arrays(new), Options(**options))  # type: ignore[arg-type]


def only(old: np.ndarray, new: np.ndarray, **options: object) -> TensorChange:
    """What became of one array."""
    (change,) = diffed({"w": old}, {"w": new}, **options).changes
    return change


def weights(seed: int, *shape: int, scale: float = 0.05, mean: float = 0.0) -> np.ndarray:
    """Numbers spread like trained ones."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale + mean).astype(np.float32)
