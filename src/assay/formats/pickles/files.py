"""Files of pickles: compressed or not, one stream or several, joblib's arrays between the opcodes.

Not here: what the objects mean (``estimators``, ``story``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from assay.audit.globals import danger
from assay.containers.compressed import codec_of, peek, unwrap
from assay.containers.pickle.parse import GlobalUse, Parsed, is_importable, looks_like_pickle, parse
from assay.errors import AssayError, BadFormat, MissingDependency, NotFound
from assay.formats.pickles.arrays import Array, Arrays, lost
from assay.formats.pickles.tensors import Index, index
from assay.formats.pytorch.legacy import is_legacy
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import TensorSpec
from assay.trees import Budget, Source, Tree, Window

MAX_STREAMS = 1_000
"""Concatenated pickles that are read."""
MAX_TENSOR = 4 << 30
MAX_READ = 16 << 30
"""Bytes read to give the tensors of one file."""

_MARK = b"NumpyArrayWrapper"
_SNIFF = 1 << 20
_SUFFIXES = (".pkl", ".pickle", ".joblib", ".p", ".lz4")


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file holds.

    Args:
        window: the pickled bytes: the entry itself, or what was inside its compression.
        codecs: compression layers undone.
        streams: the pickles, in order.
        arrays: recognises their arrays.
        findings: of the compression and of all streams.
    """

    window: Window
    codecs: tuple[str, ...]
    streams: tuple[Parsed, ...]
    arrays: Arrays
    findings: tuple[Finding, ...]

    @property
    def root(self) -> object:
        """The object of the only stream, or the objects of all of them as a list."""
        return self.streams[0].value if len(self.streams) == 1 else [stream.value for stream in self.streams]

    @property
    def all_streams(self) -> tuple[Parsed, ...]:
        """The pickles, and those in joblib's object arrays inside them."""
        return (*self.streams, *self.arrays.nested)

    @property
    def globals(self) -> tuple[GlobalUse, ...]:
        """Every distinct global of all streams, those nested in joblib's object arrays included."""
        found: dict[tuple[str, str], GlobalUse] = {}
        for stream in self.all_streams:
            for use in stream.globals:
                name = use.global_.module, use.global_.name
                known = found.get(name)
                if known is None or (use.called and not known.called):
                    found[name] = use
        return tuple(found.values())

    def index(self) -> Index:
        """The arrays, texts and objects of the graph."""
        return index(self.root, self.arrays, self.window.path)


def read(window: Window) -> Contents:
    """Read one file to its end, as far as it can be understood.

    Raises:
        BadFormat: it is not a pickle.
        MissingDependency: it is compressed by lz4 and the library is not installed.
    """
    inside = unwrap(window)
    arrays = Arrays(inside.window)
    streams: list[Parsed] = []
    findings = list(inside.findings)
    position = 0
    while position < inside.window.size:
        try:
            stream = parse(inside.window, offset=position, on_build=arrays.on_build)
        except BadFormat:
            if not streams:
                raise
            where = inside.window.start + position
            message = f"{inside.window.size - position:,} bytes after the pickle are not a pickle"
            findings.append(Finding("pickle-trailing", Severity.MISLEAD, message, window.path, where))
            break
        streams.append(stream)
        findings.extend(stream.findings)
        position = stream.end
        if not stream.complete:
            break
        if len(streams) == MAX_STREAMS:
            message = f"more than {MAX_STREAMS:,} pickles in one file"
            findings.append(Finding("pickle-limit", Severity.INCOMPLETE, message, window.path))
            break
    if not streams:
        raise BadFormat(f"{window.path}: there is nothing in it", path=window.path)
    findings.extend(lost(arrays))
    return Contents(inside.window, inside.codecs, tuple(streams), arrays, tuple(findings))


def other_reading(contents: Contents) -> list[Finding]:
    """What a reader would run that does not know joblib, and so takes the bytes of arrays for instructions.

    The bytes of an honest array spell no importable name; what they do spell before they break counts. Behind them the
    memo of such a reader is another one, so that honest instructions name nonsense there: of these only names that are
    known to be dangerous count.
    """
    if not contents.arrays.wrapped:
        return []
    try:
        parsed = parse(contents.window)
    except AssayError:
        return []
    known = {str(use.global_) for use in contents.globals}
    raw = contents.arrays.places
    other = [
        use
        for use in parsed.globals
        if str(use.global_) not in known
        and is_importable(use.global_)
        and (
            any(start <= use.offset < start + length for start, length in raw)
            or danger(use.global_.module, use.global_.name) is not None
        )
    ]
    if not other:
        return []
    where = contents.window.start + other[0].offset
    name = str(other[0].global_)
    message = f"read without joblib, the bytes of an array are instructions that name {name[:100]}"
    effect = "run what the bytes of an array say"
    return [Finding("pickle-two-readings", Severity.EXECUTE, message, contents.window.path, where, name[:200], effect)]


def kind_of(tree: Tree, path: str) -> str | None:
    """``joblib``, ``pickle``, or None for entries that are neither or belong to torch; from content, cheaply.

    joblib is told from pickle by its array wrapper near the beginning; the suffix decides where there is none.
    """
    head, codecs = peek(tree.head(path))
    codec = codec_of(tree.head(path))
    if codec and not codecs:  # bz2 gives nothing before its first block is whole
        head, codecs = peek(tree.open(path).read(0, _SNIFF))
        if codec == "lz4" and not codecs:  # cannot be undone without the library: the name decides
            return "joblib" if path.endswith(_SUFFIXES) else None
    if is_legacy(head) or not looks_like_pickle(head):
        return None
    if path.endswith(".joblib") or _MARK in head:
        return "joblib"
    if tree.size(path) <= len(tree.head(path)):
        return "pickle"
    start = tree.open(path).read(0, _SNIFF)
    return "joblib" if _MARK in (peek(start, _SNIFF)[0] if codecs else start) else "pickle"


def elements(tree: Tree, spec: TensorSpec, path: str) -> bytes:
    """The elements of a tensor of a pickle file in C order, little-endian.

    Raises:
        NotFound: the file has no such tensor.
        BadFormat: its elements are not plain numbers, or not there.
    """
    source: Any = tree.source(path)  # sources hash by identity
    contents, tensors = _understood(source, path)
    array = tensors.get(spec.name)
    if array is None or array.shape != spec.shape or array.dtype.name != spec.dtype:
        raise NotFound(f"{path}: no tensor {spec.name!r}", path=path)
    size = array.dtype.itemsize
    wanted = prod(array.shape) * (size or 0)
    if size is None or not spec.plain or wanted > MAX_TENSOR:
        raise BadFormat(f"{path}: {spec.name!r} of dtype {spec.dtype} has no plain elements", path=path)
    data = array.data if wanted else b""
    if data is None and array.place is not None:
        data = contents.window.exactly(array.place[0], wanted)
    if data is None or len(data) != wanted:
        raise BadFormat(f"{path}: the elements of {spec.name!r} are not in the file", path=path)
    if array.dtype.big_endian or array.fortran:
        view = np.frombuffer(data, np.dtype(array.dtype.text)).reshape(array.shape, order="F" if array.fortran else "C")
        data = view.astype(view.dtype.newbyteorder("<")).tobytes("C")
    return data


@lru_cache(maxsize=1)
def _understood(source: Source, path: str) -> tuple[Contents, dict[str, Array]]:
    # Readers ask for one tensor after the other; the file is understood once for all of them.
    contents = read(Window(source, path, Budget(MAX_READ)))
    return contents, contents.index().tensors


def unreadable(path: str, error: MissingDependency) -> Finding:
    """The finding for a file whose compression cannot be undone here."""
    return Finding("pickle-unreadable", Severity.INCOMPLETE, error.message, path)
