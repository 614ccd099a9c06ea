"""Datasets of an HDF5 file as a tensor index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from assay.containers.guard import guarded
from assay.containers.hdf5.file import Dataset, File, Group
from assay.errors import NotFound
from assay.spec.finding import Severity
from assay.spec.tensor import ELEMENT_BITS, TensorSpec
from assay.trees import Tree

_NAMED_TYPES = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})
"""Types HDF5 has no class for: Keras stores their bytes as opaque and names the type in an attribute."""


def tensors(file: File, *, in_place: bool = True) -> tuple[list[TensorSpec], dict[str, Group]]:
    """The datasets of a file as tensors named by their path, and its groups by path.

    Args:
        file: an open file; what cannot be read is added to its findings.
        in_place: whether offsets in the file's window are offsets in an entry (False for an inflated member).
    """
    specs: dict[str, TensorSpec] = {}
    groups: dict[str, Group] = {}
    for path, item in file.walk():
        if isinstance(item, Group):
            groups[path] = item
        elif path in specs:
            file.report("hdf5-duplicate-name", "two datasets have one name", path, Severity.MISLEAD)
        else:
            extent = item.extent if in_place else None
            specs[path] = TensorSpec(path, _dtype(item), item.shape, extent, item.big_endian)
    return list(specs.values()), groups


def read_tensor(file: File, name: str) -> bytes:
    """The elements of the dataset *name*, little-endian, in C order.

    Raises:
        NotFound: there is no such dataset.
        BadFormat: its bytes are not there or do not decode.
        LimitExceeded: it is larger than is put together in memory.
    """
    item = file.get(name)
    if not isinstance(item, Dataset):
        raise NotFound(f"{file.reader.window.path}: no HDF5 dataset {name!r}", path=file.reader.window.path)
    data = item.read()
    bits = ELEMENT_BITS.get(item.dtype, 8)
    if item.big_endian and bits > 8:
        # A complex number is two numbers, each in its own byte order.
        width = bits // 16 if item.dtype.startswith("complex") else bits // 8
        data = np.frombuffer(data, np.dtype(f">u{width}")).astype(f"<u{width}").tobytes()
    return data


def sought_tensor(
    tree: Tree,
    spec: TensorSpec,
    detect: Callable[[Tree], Sequence[tuple[str, ...]]],
    opened: Callable[[str], File | None],
) -> bytes:
    """The elements of *spec*, from the file its extent names or else the first that has a dataset of its name.

    Args:
        tree: where the files are.
        spec: the tensor.
        detect: finds the files of a format, the one with the datasets first in each group.
        opened: the HDF5 file at or in an entry; None when there is none.

    Raises:
        NotFound: none has it.
        BadFormat: its bytes are not there or do not decode.
    """
    for path in [spec.extent.path] if spec.extent else [group[0] for group in detect(tree)]:
        with guarded("HDF5 weights", path):
            file = opened(path)
            if file is not None and file.get(spec.name) is not None:
                return read_tensor(file, spec.name)
    raise NotFound(f"no file here holds the HDF5 dataset {spec.name!r}")


def shown(spec: TensorSpec) -> str:
    """A tensor as short text: ``float32[3, 2]``."""
    return f"{spec.dtype}{list(spec.shape)}"


def attribute_text(attributes: Mapping[str, object], name: str) -> str | None:
    """A text attribute, also one that Keras split into ``name0``, ``name1`` and so on because it was long."""
    value = attributes.get(name)
    if isinstance(value, str):
        return value
    parts: list[str] = []
    while isinstance(part := attributes.get(f"{name}{len(parts)}"), str):
        parts.append(part)
    return "".join(parts) or None


def _dtype(item: Dataset) -> str:
    if item.dtype == "opaque" and isinstance(named := item.attributes.get("dtype"), str) and named in _NAMED_TYPES:
        return named if ELEMENT_BITS[named] == 8 * item.kind.size else "opaque"
    return item.dtype
