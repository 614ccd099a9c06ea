"""NumPy's own files: ``.npy`` arrays and ``.npz`` archives of them.

An archive is this format's only when every member is a ``.npy``: other formats keep arrays in zips beside their own.
Arrays of stored members have extents; deflated ones are read through ``NpzFormat.tensor``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from math import prod

import numpy as np

from assay.audit.pickles import judge
from assay.containers.archive import Archive, Member, is_archive, open_archive
from assay.containers.guard import guarded
from assay.containers.npy import MAX_HEADER, NpyHeader, is_npy, parse_npy
from assay.containers.pickle.parse import parse
from assay.errors import AssayError, BadFormat, NotFound
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import BytesWindow, Tree, Window

MAX_ARRAY = 1 << 31
"""Bytes of one deflated array that are inflated into memory."""
MAX_ARRAYS = 20_000

_SPARSE = {"data", "format", "shape"}


class NpzFormat:
    """Describes ``.npy`` files and ``.npz`` archives; also gives the bytes of deflated arrays."""

    name = "npz"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per array file or archive of arrays."""
        return [(path,) for path in tree if is_npy(tree.head(path)) or _is_npz(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Every array with its dtype, shape and extent.

        Raises:
            BadFormat: it is neither an array nor an archive of arrays, or the only array's header is damaged.
        """
        path = paths[0]
        with guarded("a numpy file", path):
            window = tree.open(path)
            if is_npy(tree.head(path)):
                findings: list[Finding] = []
                header = parse_npy(window)
                if header.nbytes is None:
                    findings += _objects("array", window, header)
                specs = [_spec("array", window, header, findings, size=window.size, stored=True)]
                return _description("npy", path, specs, findings)
            return _archive(open_archive(tree, path))

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one array in C order, little-endian; it is sought in every archive of the tree.

        Raises:
            BadFormat: damaged, or not an array of plain numbers.
            NotFound: no archive holds it.
        """
        for path in [spec.extent.path] if spec.extent else [path for (path,) in self.detect(tree)]:
            window = tree.open(path)
            with guarded("a numpy file", path):
                if is_npy(tree.head(path)):
                    member: Window | None = window if spec.name == "array" else None
                else:
                    archive = open_archive(tree, path)
                    name = f"{spec.name}.npy"
                    member = archive.open(name, MAX_ARRAY) if name in archive else None
                if member is not None:
                    header = parse_npy(member)
                    if (header.dtype, header.shape) == (spec.dtype, spec.shape):
                        return _elements(member, header)
        raise NotFound(f"no numpy file holds {spec.name!r} as {spec.dtype}{list(spec.shape)}")


def _is_npz(tree: Tree, path: str) -> bool:
    head = tree.head(path)
    if not is_archive(head) or len(head) < 30:
        return False
    length = struct.unpack_from("<H", head, 26)[0]
    if not head[30 : 30 + length].endswith(b".npy"):
        return False
    try:
        return all(member.name.endswith(".npy") for member in open_archive(tree, path).members)
    except AssayError:
        return path.endswith(".npz")  # truncated: the first member and the name agree, describing it says what is wrong


def _archive(archive: Archive) -> Description:
    path = archive.window.path
    if len(archive.members) > MAX_ARRAYS:
        raise BadFormat(f"{path}: {len(archive.members):,} arrays, at most {MAX_ARRAYS:,} are read", path=path)
    findings = list(archive.findings)
    specs = []
    for member in archive.members:
        if not member.name.endswith(".npy"):
            message = f"member {member.name!r:.120} is no array"
            findings.append(Finding("npz-foreign-member", Severity.MISLEAD, message, path, member.offset))
            continue
        try:
            inner = _beginning(archive, member)
            header = parse_npy(inner)
        except BadFormat as error:
            findings.append(Finding("npz-bad-array", Severity.INCOMPLETE, error.message, path, member.offset))
            continue
        name = member.name.removesuffix(".npy")
        if header.nbytes is None:
            findings += _objects(name, archive.open(member.name, MAX_ARRAY), header)
        specs.append(_spec(name, inner, header, findings, size=member.size, stored=member.stored))
    if not specs and archive.members:
        raise BadFormat(f"{path}: no array of the archive can be read", path=path)
    return _description("npz", path, specs, findings)


def _beginning(archive: Archive, member: Member) -> Window:
    """A window on enough of a member to hold the header: in place when stored, else only as much as that inflated."""
    if member.stored:
        return archive.open(member.name)
    raw = archive.window.read(member.offset, min(member.compressed_size, 2 * MAX_HEADER))
    name = f"{archive.window.path}!{member.name}"
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, MAX_HEADER + 16)
    except zlib.error:  # another method than deflate
        return archive.open(member.name)
    return BytesWindow(data, name, archive.window.budget)


def _spec(
    name: str, window: Window, header: NpyHeader, findings: list[Finding], *, size: int, stored: bool
) -> TensorSpec:
    """The specification of one array; *size* is the length its entry or member states."""
    path = window.path.partition("!")[0] if not stored else window.path
    begin = window.start if stored else 0
    extent = None
    if header.nbytes is None:
        message = f"array {name!r:.120} holds pickled objects, which only load with allow_pickle"
        findings.append(Finding("npy-object-array", Severity.NOTE, message, path, begin + header.offset))
    else:
        available = size - header.offset
        if header.nbytes > available:
            message = f"array {name!r:.120} needs {header.nbytes:,} bytes, {max(0, available):,} are there"
            findings.append(Finding("npy-truncated", Severity.INCOMPLETE, message, path, begin + header.offset))
        elif stored:
            extent = Extent(path, window.start + header.offset, header.nbytes)
        if header.nbytes < available:
            message = f"{available - header.nbytes:,} bytes follow array {name!r:.120}"
            offset = begin + header.offset + header.nbytes
            findings.append(Finding("npy-trailing-bytes", Severity.MISLEAD, message, path, offset))
    strides = None
    if header.fortran and len(header.shape) > 1:
        strides = tuple(prod(header.shape[:axis]) for axis in range(len(header.shape)))
    return TensorSpec(name, header.dtype, header.shape, extent, header.big_endian, strides)


def _objects(name: str, window: Window, header: NpyHeader) -> list[Finding]:
    """What unpickling the elements of an array of objects would do."""
    position = header.offset
    try:
        parsed = parse(window, offset=position)
    except BadFormat as error:
        message = f"array {name!r:.120} holds objects that are no pickle: {error.message}"
        return [Finding("npy-bad-objects", Severity.INCOMPLETE, message, window.path, window.start + position)]
    findings = [*parsed.findings, *judge([parsed], window)]
    if parsed.complete and parsed.end < window.size:
        message = f"{window.size - parsed.end:,} bytes follow the objects of array {name!r:.120}"
        where = window.start + parsed.end
        findings.append(Finding("npy-trailing-bytes", Severity.MISLEAD, message, window.path, where))
    return findings


def _elements(window: Window, header: NpyHeader) -> bytes:
    """An array's elements in C order, little-endian."""
    if header.nbytes is None or header.dtype in {"void", "object"}:
        raise BadFormat(f"{window.path}: {header.dtype} elements are not plain numbers", path=window.path)
    data = window.exactly(header.offset, header.nbytes)
    if not header.fortran and not header.big_endian:
        return data
    array = np.frombuffer(data, dtype=np.dtype(header.descr)).reshape(
        header.shape, order="F" if header.fortran else "C"
    )
    return array.astype(array.dtype.newbyteorder("<")).tobytes("C")


def _description(kind: str, path: str, specs: Sequence[TensorSpec], findings: Sequence[Finding]) -> Description:
    names = {spec.name for spec in specs}
    return Description(
        format="npz",
        paths=(path,),
        format_version=kind,
        framework="numpy",
        tensors=tuple(specs),
        requirements=("scipy", "numpy") if names >= _SPARSE else ("numpy",),
        metadata={"layout": "scipy.sparse matrix"} if names >= _SPARSE else {},
        findings=tuple(findings),
    )
