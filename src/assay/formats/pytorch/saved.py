"""What ``torch.save`` left in a file: the symbolic object and where its storages' bytes lie.

Concept: both layouts (zip since torch 1.6, one stream before) hold one pickled object and numbered runs of bytes. Their
readers (``zip``, ``legacy``) give this one value; everything above need not know which layout it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import ml_dtypes
import numpy as np

from assay.containers.guard import guarded
from assay.containers.pickle.values import Global
from assay.errors import BadFormat, NotFound
from assay.formats.pytorch.values import StorageValue, TensorValue
from assay.spec.finding import Finding
from assay.spec.json import Json
from assay.spec.tensor import ELEMENT_BITS, Extent, TensorSpec

MAX_INFLATED_TENSOR = 1 << 30
"""Bytes of a compressed storage that are inflated to give one tensor."""


MAX_INFLATED_NUMBER = 1 << 16
"""Bytes of a compressed storage that are inflated for the one number in it."""


@dataclass(frozen=True, slots=True)
class Record:
    """The bytes of one storage.

    Args:
        size: bytes that are there.
        offset: first byte in the entry; None when they do not lie plainly.
    """

    size: int
    offset: int | None


class Records(Protocol):
    """The storages of a file, by key."""

    def find(self, key: str) -> Record | None:
        """Where the bytes of a storage lie, or None when the file has no such storage."""
        ...

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of a storage, inflated if need be.

        Raises:
            BadFormat: there are not that many.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One file that ``torch.save`` (or ``torch.jit.save``) wrote.

    Args:
        path: the entry.
        version: name and version of the layout.
        value: the symbolic object graph.
        globals: classes and functions the pickle names.
        records: the storages.
        big_endian: byte order of the elements.
        facts: what the layout says besides.
        findings: what was odd.
    """

    path: str
    version: str
    value: object
    globals: tuple[Global, ...]
    records: Records
    big_endian: bool = False
    facts: Mapping[str, Json] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def extent(self, tensor: TensorValue) -> Extent | None:
        """Where a tensor's bytes lie; None when they do not lie plainly or not at all."""
        if tensor.storage is None:
            return None
        record = self.records.find(tensor.storage.key)
        first, length = tensor.span()
        if record is None or record.offset is None or first + length > record.size:
            return None
        return Extent(self.path, record.offset + first, length)

    def spec(self, name: str, tensor: TensorValue) -> TensorSpec:
        """The tensor as an entry of the tensor index."""
        extent = self.extent(tensor)
        return TensorSpec(name, tensor.dtype, tensor.shape, extent, self.big_endian, tensor.strides)

    def problem(self, tensor: TensorValue) -> tuple[bool, str] | None:
        """When a tensor's storage cannot hold it: whether the storage is missing, and a message; else None."""
        storage = tensor.storage
        if storage is None:
            return None
        record = self.records.find(storage.key)
        if record is None:
            return True, f"storage {storage.key!r} is not in the file"
        first, length = tensor.span()
        if first + length > record.size:
            end = first + length
            return False, f"a tensor reaches to byte {end:,} of storage {storage.key!r}, which has {record.size:,}"
        return None

    def elements(self, tensor: TensorValue) -> bytes:
        """The elements of a tensor in C order, little-endian.

        Raises:
            BadFormat: the storage is not there, ends before, or its dtype is not a plain array of numbers.
        """
        storage, dtype = tensor.storage, numpy_type(tensor.dtype)
        if storage is None or dtype is None:
            raise BadFormat(f"{self.path}: {tensor.dtype} elements do not lie in a storage", path=self.path)
        first, length = tensor.span()
        raw = self.records.read(storage.key, first, length)
        if tensor.size * dtype.itemsize > MAX_INFLATED_TENSOR:
            raise BadFormat(f"{self.path}: a tensor of {tensor.text} is too large to be copied", path=self.path)
        return in_c_order(raw, tensor, dtype, big_endian=self.big_endian)

    def number(self, tensor: TensorValue) -> float | int | None:
        """The value of a tensor with one element, or None when it cannot be had."""
        dtype = numpy_type(tensor.dtype)
        if tensor.size != 1 or dtype is None or tensor.dtype.startswith("complex") or self.problem(tensor):
            return None
        record = self.records.find(tensor.storage.key) if tensor.storage is not None else None
        if record is None or (record.offset is None and record.size > MAX_INFLATED_NUMBER):
            return None
        try:
            value = np.frombuffer(self.elements(tensor), dtype)[0]
        except BadFormat:
            return None
        return int(value) if tensor.dtype.startswith(("int", "uint", "bool")) else float(value)


def numpy_type(dtype: str) -> np.dtype | None:
    """The numpy dtype of a dtype name, or None when it is not a plain array of whole bytes."""
    if ELEMENT_BITS.get(dtype, 1) % 8:
        return None
    try:
        return np.dtype(getattr(ml_dtypes, dtype, dtype))
    except TypeError:
        return None


def in_c_order(raw: bytes, tensor: TensorValue, dtype: np.dtype, *, big_endian: bool) -> bytes:
    """Elements with strides, from *raw* that begins at the first one, in C order and little-endian.

    Raises:
        BadFormat: *raw* is shorter than the tensor reaches.
    """
    if len(raw) < tensor.span()[1]:
        raise BadFormat(f"a tensor of {tensor.text} ends before its last element")
    if tensor.size == 0:
        return b""
    array = np.frombuffer(raw, dtype)
    if tensor.strides is not None:
        steps = tuple(stride * dtype.itemsize for stride in tensor.strides)
        array = np.lib.stride_tricks.as_strided(array, tensor.shape, steps, writeable=False)
    array = np.ascontiguousarray(array)
    return array.byteswap().tobytes() if big_endian else array.tobytes()


def stated_size_differs(storage: StorageValue, record: Record) -> bool:
    """Whether the pickle says another size of a storage than its record has."""
    return storage.nbytes != record.size


def sought_elements(
    spec: TensorSpec,
    paths: Iterable[str],
    what: str,
    tensors: Callable[[str], Iterable[tuple[str, Saved, TensorValue]]],
) -> bytes:
    """The elements of the tensor that *spec* describes, in C order.

    Args:
        spec: the tensor; its extent says which entry holds it.
        paths: entries to look in.
        what: one of them, in words.
        tensors: names the tensors of one of them.

    Raises:
        BadFormat: the bytes are not there or do not decode.
        NotFound: none of the entries holds such a tensor.
    """
    for path in paths:
        if spec.extent is not None and spec.extent.path != path:
            continue
        with guarded(what, path):
            for name, saved, tensor in tensors(path):
                if name == spec.name and saved.spec(name, tensor) == spec:
                    return saved.elements(tensor)
    raise NotFound(f"no tensor {spec.name!r} like that in {what} here")
