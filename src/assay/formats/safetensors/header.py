"""The header of one safetensors file, checked against the bytes that follow it.

Source of the layout: the format section of the safetensors README: eight bytes of little-endian header length, a JSON
object of tensors with ``dtype``, ``shape`` and ``data_offsets`` counted from the end of the header, then the data
without holes. What disagrees becomes a finding; a tensor whose bytes cannot be trusted keeps its name but no extent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeGuard

from assay.containers.documents import parse_json
from assay.errors import BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import ELEMENT_BITS, Extent, TensorSpec
from assay.trees import Window

MAX_HEADER = 100_000_000
"""Bytes of header that the format allows."""
MAX_VALUES = 2_000_000
"""Values in a header; a tensor has seven, and the largest known file some ten thousand tensors."""
MAX_DIMENSIONS = 64
MAX_FINDINGS = 50
"""Findings kept per file; one more says how many were left out."""
MAX_PADDING = 4096
"""Blanks at the end of a header that are worth no word."""
_MAX_SIZE = 1 << 63
_FIELDS = {"dtype", "shape", "data_offsets"}

DTYPES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
}
"""The format's words for element types, and ours."""


@dataclass(slots=True)
class Header:
    """What one file's header says, and what is wrong with it.

    Args:
        tensors: in order of their bytes.
        metadata: the ``__metadata__`` object.
        findings: rules ``safetensors-…``.
    """

    tensors: list[TensorSpec] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def looks_like(head: bytes) -> bool:
    """Whether an entry's head can be that of a safetensors file: a possible length and the beginning of an object."""
    if len(head) < 10 or head[8:9] != b"{" or not 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return False
    return head[9:].lstrip(b" \t\r\n")[:1] in {b'"', b"}"}


def read_header(window: Window) -> Header:
    """Read and check the header at the beginning of *window*; the data is not read.

    Raises:
        BadFormat: there is no header, or it is not a JSON object.
        LimitExceeded: it is longer than the format allows, or holds too many values.
    """
    path = window.path
    length = int.from_bytes(window.exactly(0, 8), "little")
    if length > MAX_HEADER:
        raise LimitExceeded(
            f"{path}: header of {length:,} bytes, safetensors allows {MAX_HEADER:,}", path=path, offset=0
        )
    raw = window.exactly(8, length)
    if raw[:1] != b"{":
        raise BadFormat(f"{path}: header must begin with a brace, found {raw[:1]!r}", path=path, offset=8)
    document = parse_json(raw, path, max_values=MAX_VALUES)
    if not isinstance(document.value, Mapping):
        raise BadFormat(f"{path}: header is not a JSON object", path=path, offset=8)
    check = _Check(window, 8 + length)
    check.padding(raw)
    return check.run(document.value, document.repeated)


class _Check:
    """One pass over the tensors of a header."""

    def __init__(self, window: Window, data: int) -> None:
        self.window = window
        self.path = window.path
        self.data = data
        self.available = window.size - data
        self.header = Header()
        self.left_out = 0

    def run(self, value: Mapping[str, Json], repeated: Sequence[str]) -> Header:
        for key in repeated:
            self.report("duplicate-key", Severity.MISLEAD, f"key {key!r:.120} occurs more than once", 8)
        ranges = []
        for name, entry in value.items():
            if name == "__metadata__":
                self.metadata(entry)
                continue
            found = self.tensor(name, entry)
            if found is not None:
                ranges.append(found)
        ranges.sort(key=lambda item: (item[0], item[1]))
        self.layout(ranges)
        self.header.tensors = [spec for _, _, spec in ranges]
        if self.left_out:
            message = f"{self.left_out:,} more findings were left out"
            self.header.findings.append(Finding("safetensors-more", Severity.MISLEAD, message, self.path))
        return self.header

    def padding(self, raw: bytes) -> None:
        filled = len(raw) - len(raw.rstrip(b" "))
        if filled > MAX_PADDING:
            # Writers fill up to eight bytes, some to a page; blanks harm nobody.
            self.report("padding", Severity.NOTE, f"the header ends with {filled:,} blanks", 8 + len(raw) - filled)

    def metadata(self, entry: Json) -> None:
        if not isinstance(entry, Mapping):
            self.report("bad-metadata", Severity.MISLEAD, "__metadata__ is not an object", 8)
            return
        if not all(isinstance(value, str) for value in entry.values()):
            self.report("bad-metadata", Severity.MISLEAD, "__metadata__ holds values that are not text", 8)
        self.header.metadata = {key: value if isinstance(value, str) else str(value) for key, value in entry.items()}

    def tensor(self, name: str, entry: Json) -> tuple[int, int, TensorSpec] | None:
        """Where a tensor's bytes begin and end in the data, and its specification; None when nothing can be said."""
        if not isinstance(entry, Mapping):
            self.bad(name, "is not an object")
            return None
        shape, offsets, word = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
        if len(entry) > 3 and len(entry.keys() - _FIELDS):
            message = f"tensor {name!r:.120} has fields that the format does not know"
            self.report("unknown-field", Severity.MISLEAD, message, 8)
        if not isinstance(word, str) or not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
            self.bad(name, "needs dtype, shape and two data_offsets")
            return None
        count = prod(shape)
        if len(shape) > MAX_DIMENSIONS or (count or prod(size for size in shape if size)) >= _MAX_SIZE:
            self.bad(name, "has an impossible shape")
            return None
        begin, end = offsets
        if begin > end:
            self.bad(name, f"ends at {end} before it begins at {begin}")
            return None
        dtype = DTYPES.get(word)
        extent: Extent | None = Extent(self.path, self.data + begin, end - begin)
        if dtype is None:
            dtype = word.lower()[:64]
            self.report("unknown-dtype", Severity.INCOMPLETE, f"tensor {name!r:.120} has unknown dtype {word!r:.40}", 8)
        elif count * ELEMENT_BITS[dtype] != 8 * (end - begin):
            extent = None
            message = (
                f"tensor {name!r:.120} of {word} {list(shape)!r:.80} takes {count * ELEMENT_BITS[dtype]} bits, "
                f"its offsets hold {8 * (end - begin)}"
            )
            self.report("size-mismatch", Severity.MISLEAD, message, self.data + begin)
        if end > self.available:
            extent = None
            message = f"tensor {name!r:.120} ends at byte {end} of {self.available} bytes of data"
            self.report("outside-data", Severity.INCOMPLETE, message, self.data + begin)
        return begin, end, TensorSpec(name, dtype, tuple(shape), extent)

    def layout(self, ranges: Sequence[tuple[int, int, TensorSpec]]) -> None:
        """Report holes, overlaps and bytes behind the last tensor."""
        covered = 0
        for begin, end, spec in ranges:
            if begin > covered:
                message = f"{begin - covered} bytes before tensor {spec.name!r:.120} belong to no tensor"
                self.report("hole", Severity.MISLEAD, message, self.data + covered)
            elif begin < covered and begin != end:
                message = f"tensor {spec.name!r:.120} overlaps the tensor before it"
                self.report("overlap", Severity.MISLEAD, message, self.data + begin)
            covered = max(covered, end)
        if self.available > covered:
            message = f"{self.available - covered} bytes follow the last tensor"
            evidence = self.window.read(self.data + covered, 16).hex(" ")
            self.report("trailing-bytes", Severity.MISLEAD, message, self.data + covered, evidence)

    def bad(self, name: str, reason: str) -> None:
        self.report("bad-tensor", Severity.INCOMPLETE, f"tensor {name!r:.120} {reason}", 8)

    def report(self, what: str, severity: Severity, message: str, offset: int, evidence: str = "") -> None:
        if len(self.header.findings) >= MAX_FINDINGS:
            self.left_out += 1
            return
        self.header.findings.append(Finding(f"safetensors-{what}", severity, message, self.path, offset, evidence))


def _sizes(value: Json) -> TypeGuard[list[int]]:
    if not isinstance(value, list):
        return False
    for size in value:  # noqa: SIM110 - a generator costs twice as much, and models have a hundred thousand tensors
        if type(size) is not int or not 0 <= size < _MAX_SIZE:
            return False
    return True
