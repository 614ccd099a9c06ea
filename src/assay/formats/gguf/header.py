"""The header of a GGUF file: every key-value pair, every tensor, and where the tensors' bytes lie.

Layout (GGUF specification, versions 1 to 3; all numbers little-endian, or big-endian throughout):

    "GGUF" | version u32 | tensor count | pair count | pairs | tensor infos | padding | data

Counts and lengths have 8 bytes, in version 1 only 4. A vocabulary makes the header megabytes long, so long arrays are
stepped over in one loop and decoded only where somebody asks for an item.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from assay.errors import BadFormat, LimitExceeded
from assay.formats.gguf.buffer import Buffer
from assay.formats.gguf.types import ARRAY, SCALAR_NAMES, STRING, TENSOR_TYPES
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Window

MAGIC = b"GGUF"
MAX_PAIRS = 100_000
MAX_TENSORS = 250_000
MAX_DIMENSIONS = 8
"""Dimensions of a tensor that are read; ggml itself has four."""
MAX_ARRAY_DEPTH = 4
MAX_NESTED_ARRAYS = 100_000
SHORT_ARRAY = 64
"""Arrays up to this length are kept whole."""
SHOWN_ITEMS = 8
"""Items kept of a longer array."""
MAX_FINDINGS = 50
DEFAULT_ALIGNMENT = 32
MAX_PADDING = 1 << 16
"""Bytes of padding that are looked at; more is no alignment that anybody needs."""
_MAX_SIZE = 1 << 63

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Array:
    """An array value: how long it is, its first items, and where it lies for who wants more.

    Args:
        kind: name of the item type.
        count: number of items.
        first: all items of a short array, the first ones of a long one.
        start: position of the first item in the header's buffer.
    """

    kind: str
    count: int
    first: tuple[Value, ...]
    start: int


Value = Scalar | Array


@dataclass(slots=True)
class Header:
    """What a GGUF header says, and what is wrong with it.

    Args:
        version: of the layout.
        big_endian: byte order of everything.
        values: the key-value pairs in order.
        tensors: in the order of the file.
        findings: rules ``gguf-…``.
    """

    version: int
    big_endian: bool
    values: dict[str, Value] = field(default_factory=dict)
    tensors: list[TensorSpec] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    buffer: Buffer | None = None

    def texts(self, array: Array, indexes: Iterable[int]) -> dict[int, str]:
        """The items of a text array at *indexes*; an index outside is left out."""
        wanted = sorted({index for index in indexes if 0 <= index < array.count})
        found: dict[int, str] = {}
        if array.kind != "string" or self.buffer is None:
            return found
        at, position = 0, array.start
        for index in wanted:
            position = self.buffer.skip_texts(position, index - at)
            at = index
            found[index] = self.buffer.text(position)[0]
        return found


def version_of(head: bytes) -> tuple[int, bool] | None:
    """Version and byte order (True for big-endian) from an entry's head; None when it is not GGUF."""
    if head[:4] != MAGIC or len(head) < 8:
        return None
    for order, big_endian in (("little", False), ("big", True)):
        version = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]  # one of the two words it takes
        if 1 <= version <= 0xFFFF:
            return version, big_endian
    return None


def read_header(window: Window) -> Header:
    """Read the header at the beginning of *window*; the data is not read.

    Raises:
        BadFormat: it is not GGUF of a known version, or ends before the first pair or tensor.
        LimitExceeded: its counts are beyond any real file.
    """
    found = version_of(window.exactly(0, 8))
    if found is None:
        raise BadFormat(f"{window.path}: expected the magic and version of GGUF", path=window.path, offset=0)
    version, big_endian = found
    if version > 3:
        raise BadFormat(f"{window.path}: GGUF version {version} is not known, newest known is 3", path=window.path)
    return _Parser(window, version, big_endian=big_endian).run()


class _Parser:
    """One pass over a header."""

    def __init__(self, window: Window, version: int, *, big_endian: bool) -> None:
        self.window = window
        self.path = window.path
        self.buffer = Buffer(window, version, big_endian=big_endian)
        self.header = Header(version, big_endian, buffer=self.buffer)
        self.left_out = 0
        self.nested = 0

    def run(self) -> Header:
        tensor_count, position = self.buffer.size(8)
        pair_count, position = self.buffer.size(position)
        width = self.buffer.length.size
        # A pair takes at least a key's length, a type and one byte; a tensor a name's length, two words and an offset.
        if pair_count * (width + 5) + tensor_count * (width + 16) > self.window.size - position:
            raise BadFormat(
                f"{self.path}: {pair_count:,} pairs and {tensor_count:,} tensors do not fit into "
                f"{self.window.size:,} bytes",
                path=self.path,
                offset=8,
            )
        if pair_count > MAX_PAIRS or tensor_count > MAX_TENSORS:
            raise LimitExceeded(
                f"{self.path}: {pair_count:,} pairs and {tensor_count:,} tensors, at most {MAX_PAIRS:,} and "
                f"{MAX_TENSORS:,} are read",
                path=self.path,
                offset=8,
            )
        try:
            for _ in range(pair_count):
                position = self.pair(position)
            infos: list[_Info] = []
            try:
                for _ in range(tensor_count):
                    position = self.info(position, infos)
            finally:
                self.place(infos, position, complete=len(infos) == tensor_count)
        except BadFormat as error:
            if not self.header.values and not self.header.tensors:
                raise
            self.report("bad-header", Severity.INCOMPLETE, error.message, position)
        if self.left_out:
            message = f"{self.left_out:,} more findings were left out"
            self.header.findings.append(Finding("gguf-more", Severity.MISLEAD, message, self.path))
        return self.header

    def pair(self, position: int) -> int:
        begin = position
        key, position = self.buffer.text(position)
        kind, position = self.buffer.word(position)
        value, position = self.value(kind, position, 0)
        if key in self.header.values:
            self.report("duplicate-key", Severity.MISLEAD, f"key {key!r:.120} occurs more than once", begin)
        else:
            self.header.values[key] = value
        return position

    def value(self, kind: int, position: int, depth: int) -> tuple[Value, int]:
        scalar = self.buffer.scalars.get(kind)
        if scalar is not None:
            self.buffer.need(position, scalar.size)
            return scalar.unpack_from(self.buffer.data, position)[0], position + scalar.size
        if kind == STRING:
            return self.buffer.text(position)
        if kind == ARRAY:
            return self.array(position, depth)
        raise BadFormat(f"{self.path}: unknown value type {kind} at offset {position}", path=self.path, offset=position)

    def array(self, position: int, depth: int) -> tuple[Array, int]:
        if depth >= MAX_ARRAY_DEPTH:
            raise LimitExceeded(f"{self.path}: arrays nested deeper than {MAX_ARRAY_DEPTH}", path=self.path)
        kind, position = self.buffer.word(position)
        count, position = self.buffer.size(position)
        scalar = self.buffer.scalars.get(kind)
        smallest = scalar.size if scalar else self.buffer.length.size + (4 if kind == ARRAY else 0)
        if count * smallest > self.window.size - position:
            raise BadFormat(
                f"{self.path}: array of {count:,} items does not fit into the file", path=self.path, offset=position
            )
        start = position
        shown = count if count <= SHORT_ARRAY and depth == 0 else min(count, SHOWN_ITEMS)
        if kind == ARRAY:
            self.nested += count
            if self.nested > MAX_NESTED_ARRAYS:
                raise LimitExceeded(f"{self.path}: more than {MAX_NESTED_ARRAYS:,} arrays in arrays", path=self.path)
        first: list[Value] = []
        for index in range(count):
            if index >= shown and kind != ARRAY:
                break
            item, position = self.value(kind, position, depth + 1)
            if index < shown:
                first.append(item)
        if kind == STRING:
            position = self.buffer.skip_texts(position, count - len(first))
        elif scalar:
            position = start + count * scalar.size
            self.buffer.need(position, 0)
        return Array(SCALAR_NAMES.get(kind, str(kind)), count, tuple(first), start), position

    def info(self, position: int, infos: list[_Info]) -> int:
        begin = position
        name, position = self.buffer.text(position)
        rank, position = self.buffer.word(position)
        if rank > MAX_DIMENSIONS:
            raise LimitExceeded(
                f"{self.path}: tensor {name!r:.120} has {rank} dimensions, at most {MAX_DIMENSIONS} are read",
                path=self.path,
                offset=begin,
            )
        sizes = []
        for _ in range(rank):
            size, position = self.buffer.size(position)
            sizes.append(size)
        kind, position = self.buffer.word(position)
        # Offsets have 8 bytes in every version.
        self.buffer.need(position, 8)
        offset = self.buffer.scalars[10].unpack_from(self.buffer.data, position)[0]
        infos.append(_Info(name, tuple(sizes), kind, offset, begin))
        return position + 8

    def place(self, infos: list[_Info], position: int, *, complete: bool) -> None:
        """Turn tensor infos into specifications with extents, once it is known where the data begins."""
        alignment = self.alignment()
        data = position + -position % alignment
        if complete:
            self.padding(position, data)
        placed: list[tuple[int, int, str]] = []
        names: set[str] = set()
        known = complete
        for info in infos:
            if info.name in names:
                self.report("duplicate-tensor", Severity.MISLEAD, f"tensor {info.name!r:.120} occurs twice", info.begin)
                known = False
                continue
            names.add(info.name)
            if any(size >= _MAX_SIZE for size in info.sizes) or prod(size for size in info.sizes if size) >= _MAX_SIZE:
                self.bad_tensor(info, "has an impossible shape")
                known = False
                continue
            length = self.length(info)
            extent = None
            if not complete:
                pass  # where the data begins is unknown
            elif length is None:
                known = False
            elif data + info.offset + length > self.window.size:
                message = (
                    f"tensor {info.name!r:.120} ends at byte {data + info.offset + length:,} of {self.window.size:,}"
                )
                self.report("outside-file", Severity.INCOMPLETE, message, info.begin)
                known = False
            else:
                extent = Extent(self.path, data + info.offset, length)
                placed.append((extent.offset, length, info.name))
            if info.offset % alignment:
                message = f"tensor {info.name!r:.120} begins at {info.offset}, not a multiple of {alignment}"
                self.report("misaligned", Severity.MISLEAD, message, info.begin)
            self.header.tensors.append(self.spec(info, extent))
        if known:
            self.layout(placed, data, alignment)

    def spec(self, info: _Info, extent: Extent | None) -> TensorSpec:
        known = TENSOR_TYPES.get(info.kind)
        name = known.name if known else f"ggml_type_{info.kind}"
        swapped = self.header.big_endian and known is not None and known.block == 1 and known.nbytes > 1
        # ggml counts the fastest dimension first, everybody else last.
        return TensorSpec(info.name, name, tuple(reversed(info.sizes)), extent, big_endian=swapped)

    def length(self, info: _Info) -> int | None:
        known = TENSOR_TYPES.get(info.kind)
        if known is None:
            self.report(
                "unknown-type",
                Severity.INCOMPLETE,
                f"tensor {info.name!r:.120} has unknown type {info.kind}",
                info.begin,
            )
            return None
        row = info.sizes[0] if info.sizes else 1
        if row % known.block:
            self.bad_tensor(info, f"has rows of {row} elements, {known.name} packs {known.block} together")
            return None
        return prod(info.sizes) // known.block * known.nbytes

    def alignment(self) -> int:
        value = self.header.values.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(value) is int and 1 <= value <= 1 << 30 and value & (value - 1) == 0:
            return value
        message = f"alignment must be a power of two, found {value!r:.40}"
        self.report("bad-alignment", Severity.MISLEAD, message, 0)
        return DEFAULT_ALIGNMENT

    def layout(self, placed: list[tuple[int, int, str]], data: int, alignment: int) -> None:
        """Report overlaps, holes and bytes behind the last tensor."""
        covered = data
        for offset, length, name in sorted(placed):
            if offset < covered and length:
                self.report("overlap", Severity.MISLEAD, f"tensor {name!r:.120} overlaps the one before it", offset)
            elif offset > covered + -covered % alignment:
                self.report("hole", Severity.MISLEAD, f"bytes before tensor {name!r:.120} belong to no tensor", covered)
            covered = max(covered, offset + length)
        end = covered + -covered % alignment
        if self.window.size > end:
            message = f"{self.window.size - end:,} bytes follow the last tensor"
            self.report("trailing-bytes", Severity.MISLEAD, message, end)
        if placed:
            self.padding(covered, end)

    def padding(self, begin: int, end: int) -> None:
        """Report bytes that only fill up to the alignment and are not zero; other readers may find something there."""
        end = min(end, self.window.size)
        rest = self.window.read(begin, min(max(0, end - begin), MAX_PADDING)).lstrip(b"\0")
        if rest or end - begin > MAX_PADDING:
            message = f"{end - begin:,} bytes of padding hold something, or are too many"
            self.report("padding", Severity.MISLEAD, message, begin)

    def bad_tensor(self, info: _Info, reason: str) -> None:
        self.report("bad-tensor", Severity.INCOMPLETE, f"tensor {info.name!r:.120} {reason}", info.begin)

    def report(self, what: str, severity: Severity, message: str, offset: int) -> None:
        if len(self.header.findings) >= MAX_FINDINGS:
            self.left_out += 1
            return
        self.header.findings.append(Finding(f"gguf-{what}", severity, message, self.path, offset))


@dataclass(frozen=True, slots=True)
class _Info:
    """One tensor info as it stands in the file."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    offset: int
    begin: int
