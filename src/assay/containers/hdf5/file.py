"""HDF5 files read without the HDF5 library: groups, datasets, attributes, and where the elements lie.

    file = File(window)
    for path, item in file.walk():
        if isinstance(item, Dataset):
            print(path, item.dtype, item.shape, item.extent)

Concept: nothing outside the file is ever followed. External links, external storage and virtual datasets are findings,
because a reader that follows them lets a model file read other files (CVE-2026-1669 and its like). What is damaged is a
finding too, and the rest is still there.

Rules for editors: everything is bounded by ``reader`` (records, bytes of metadata), ``MAX_OBJECTS`` and
``MAX_DEPTH``; the parts by concept are ``reader`` (superblock, addresses), ``headers`` (messages),
``types`` (datatypes, values), ``indexes`` (B-trees, heaps), ``links``, ``layout`` and
``chunks`` (elements).

Source of the layout: "HDF5 File Format Specification Version 3.0" (superblocks 0 to 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from assay.containers.hdf5.attributes import read_attributes
from assay.containers.hdf5.chunks import MAX_RATIO, assemble
from assay.containers.hdf5.headers import (
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILL_VALUE,
    FILTERS,
    LAYOUT,
    OLD_FILL_VALUE,
    Message,
    read_header,
)
from assay.containers.hdf5.layout import Storage, read_fill, read_filters, read_layout
from assay.containers.hdf5.links import Link, links
from assay.containers.hdf5.reader import SIGNATURE, Reader, is_hdf5
from assay.containers.hdf5.types import AttributeValue, Dataspace, Datatype, Heap, read_dataspace, read_datatype
from assay.errors import BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import Extent
from assay.trees import Window

__all__ = ["MAX_DEPTH", "MAX_OBJECTS", "SIGNATURE", "AttributeValue", "Dataset", "File", "Group", "is_hdf5"]

MAX_OBJECTS = 200_000
"""Groups and datasets of one file."""

MAX_DEPTH = 64
"""Groups inside groups."""

MAX_FINDINGS = 200
"""Findings of one file; more of them say nothing new."""


_EFFECTS = {Severity.READ: "read a file outside the artifact", Severity.EXHAUST: "use up memory"}


class File:
    """An HDF5 file.

    Args:
        window: its bytes.

    Attributes:
        root: the root group.
        findings: grows while the file is read: ``hdf5-external-link``, ``hdf5-external-storage``,
            ``hdf5-virtual-dataset``, ``hdf5-unreadable``, ``hdf5-outside-file``, ``hdf5-cycle``, ``hdf5-limit``,
            ``hdf5-user-link``, ``hdf5-soft-link``, ``hdf5-oversized``.

    Raises:
        BadFormat: it is not HDF5, or the root group cannot be read.
    """

    def __init__(self, window: Window) -> None:
        self.reader = Reader(window)
        self.heap = Heap(self.reader)
        self.findings: list[Finding] = []
        self._objects: dict[int, Group | Dataset | None] = {}
        root = self._object("/", self.reader.superblock.root)
        if not isinstance(root, Group):
            raise self.reader.bad("the root is not a group", self.reader.superblock.root)
        self.root = root

    def get(self, path: str) -> Group | Dataset | None:
        """The object at a path such as ``model_weights/dense/kernel``, or None."""
        item: Group | Dataset | None = self.root
        for name in path.strip("/").split("/"):
            if not isinstance(item, Group):
                return None
            item = item.members.get(name)
        return item

    def walk(self) -> Iterator[tuple[str, Group | Dataset]]:
        """Every group and dataset below the root once, in the order of the names, with its path.

        An object with two names is given under the first; a group inside itself is reported and not entered.
        """
        seen = {self.root.address}
        stack: list[tuple[str, Group | Dataset, int]] = [("", self.root, 0)]
        while stack:
            path, item, depth = stack.pop()
            if path:
                yield path, item
            if not isinstance(item, Group):
                continue
            if depth >= MAX_DEPTH:
                self.report("hdf5-limit", f"groups nested deeper than {MAX_DEPTH}", path)
                continue
            prefix = f"{path}/" if path else ""
            fresh = []
            for name, member in item.members.items():
                if member.address in seen:
                    self.report("hdf5-cycle", "an object has more than one name", prefix + name, Severity.NOTE)
                    continue
                seen.add(member.address)
                fresh.append((prefix + name, member, depth + 1))
            stack.extend(reversed(fresh))

    def report(
        self, rule: str, message: str, name: str, severity: Severity = Severity.INCOMPLETE, evidence: str = ""
    ) -> None:
        """Keep a finding about the object called *name*, unless there are too many already."""
        if len(self.findings) < MAX_FINDINGS:
            text = f"{message}: {name[:200]}" if name else message
            effect = _EFFECTS.get(severity, "")
            path = self.reader.window.path
            self.findings.append(Finding(rule, severity, text, path, evidence=evidence[:200], effect=effect))

    def _members(self, group: Group) -> dict[str, Group | Dataset]:
        members: dict[str, Group | Dataset] = {}
        soft: list[Link] = []
        prefix = f"{group.name}/" if group.name != "/" else ""
        try:
            for link in links(self.reader, group.messages):
                name = prefix + link.name
                if link.soft is not None:
                    soft.append(link)
                elif link.external is not None:
                    self.report(
                        "hdf5-external-link",
                        "a link leads to another file, which a reader would open",
                        name,
                        Severity.READ,
                        "!".join(link.external),
                    )
                elif link.address is None:
                    self.report("hdf5-user-link", f"a link of kind {link.unknown} cannot be followed", name)
                elif link.name not in members:
                    item = self._tolerant(name, link.address)
                    if item is not None:
                        members[link.name] = item
        except BadFormat as error:
            self._unreadable(group.name, error)
        for link in soft:
            # Only siblings are resolved: it is what models use, and cannot lead in circles.
            target = (link.soft or "").removeprefix("./").removeprefix(f"/{prefix}")
            if "/" not in target and target in members:
                members.setdefault(link.name, members[target])
            else:
                self.report("hdf5-soft-link", "a soft link was not followed", prefix + link.name, Severity.NOTE, target)
        return members

    def _tolerant(self, name: str, address: int) -> Group | Dataset | None:
        try:
            return self._object(name, address)
        except BadFormat as error:
            self._unreadable(name, error)
            return None

    def _unreadable(self, name: str, error: BadFormat) -> None:
        if isinstance(error, LimitExceeded):
            self.report("hdf5-limit", "a limit was reached", name, evidence=error.message)
        else:
            self.report("hdf5-unreadable", "an object cannot be read", name, evidence=error.message)

    def _object(self, name: str, address: int) -> Group | Dataset | None:
        if address not in self._objects:
            if len(self._objects) >= MAX_OBJECTS:
                raise LimitExceeded(f"{self.reader.window.path}: more than {MAX_OBJECTS:,} HDF5 objects")
            self._objects[address] = None
            self._objects[address] = self._read_object(name, address)
        return self._objects[address]

    def _read_object(self, name: str, address: int) -> Group | Dataset | None:
        messages = read_header(self.reader, address)
        kinds = {message.kind for message in messages}
        if LAYOUT in kinds:
            return _dataset(self, name, address, messages)
        if DATATYPE in kinds:
            # A named datatype: it only serves objects that refer to it.
            return None
        return Group(self, name, address, messages)


class Group:
    """A group: names of groups and datasets.

    Attributes:
        name: its path from the root.
        address: of its object header.
    """

    def __init__(self, file: File, name: str, address: int, messages: list[Message]) -> None:
        self.file = file
        self.name = name
        self.address = address
        self.messages = messages

    @cached_property
    def members(self) -> dict[str, Group | Dataset]:
        """The groups and datasets in it by name; links that lead outside or cannot be read are findings instead."""
        # The file builds its objects; a group only asks when somebody looks.
        return self.file._members(self)  # noqa: SLF001 - one concept in two classes

    @cached_property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Its attributes by name; what cannot be read is a finding."""
        return _attributes(self.file, self.name, self.messages)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset.

    Args:
        file: where it lies.
        name: its path from the root.
        address: of its object header.
        kind: type of its elements.
        shape: of the array; dimensions of an array type stand behind those of the dataspace.
        extent: where the elements lie plainly, counted in the entry; None when chunked, filtered, outside or
            unallocated.
        space: dimensions of the dataspace alone.
        storage: layout, filters, fill value.
        messages: of its object header.
    """

    file: File
    name: str
    address: int
    kind: Datatype
    shape: tuple[int, ...]
    extent: Extent | None
    space: Dataspace
    storage: Storage
    messages: list[Message]

    @property
    def dtype(self) -> str:
        """Name of the element type, as in ``TensorSpec``."""
        return self.kind.dtype

    @property
    def big_endian(self) -> bool:
        """Byte order of the elements."""
        return self.kind.big_endian

    @property
    def chunked(self) -> bool:
        """Whether the elements lie in chunks."""
        return self.storage.layout.kind == "chunked"

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the filters, in the order in which they were applied when writing."""
        return tuple(step.name for step in self.storage.filters)

    @cached_property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Its attributes by name; what cannot be read is a finding."""
        return _attributes(self.file, self.name, self.messages)

    def read(self) -> bytes:
        """All elements in C order, as stored: the byte order is left alone.

        Raises:
            BadFormat: the bytes are not in this file, not complete, or filtered in a way that is not supported.
            LimitExceeded: too large to put together in memory.
        """
        item = self.kind.base.size if self.kind.kind == "array" and self.kind.base else self.kind.size
        size = prod(self.shape) * item
        window = self.file.reader.window
        if self.extent is not None:
            return window.exactly(self.extent.offset - window.start, self.extent.length)
        if self.storage.outside or self.storage.layout.kind == "virtual":
            raise BadFormat(f"{window.path}: the elements of {self.name} lie in other files", path=window.path)
        if self.chunked:
            return assemble(self.file.reader, self.space, self.kind.size, self.storage)
        if self.storage.layout.address is None and size <= window.size * MAX_RATIO:
            fill = self.storage.fill if len(self.storage.fill) == self.kind.size else bytes(self.kind.size)
            return fill * self.space.count
        raise BadFormat(f"{window.path}: the elements of {self.name} lie outside the file", path=window.path)


def _attributes(file: File, name: str, messages: list[Message]) -> Mapping[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for found in read_attributes(file.reader, file.heap, messages):
        if isinstance(found, BadFormat):
            file.report("hdf5-unreadable", "an attribute cannot be read", name, evidence=found.message)
        else:
            attributes.setdefault(*found)
    return attributes


def _dataset(file: File, name: str, address: int, messages: list[Message]) -> Dataset:
    reader = file.reader
    space, kind, storage, layout = Dataspace(()), None, None, None
    for message in messages:
        if message.kind == DATASPACE:
            space = read_dataspace(reader.over(message.data))
        elif message.kind == DATATYPE:
            kind = read_datatype(reader.over(message.data))
        elif message.kind == LAYOUT:
            layout = read_layout(reader, message)
    if kind is None or layout is None:
        raise reader.bad("a dataset without a datatype", address)
    storage = Storage(layout)
    for message in messages:
        if message.kind == FILTERS:
            storage.filters = read_filters(reader.over(message.data))
        elif message.kind in {FILL_VALUE, OLD_FILL_VALUE}:
            storage.fill = read_fill(reader, message) or storage.fill
        elif message.kind == EXTERNAL_FILES:
            storage.outside = ("",)
            file.report(
                "hdf5-external-storage",
                "a dataset's elements lie in another file, which a reader would open",
                name,
                Severity.READ,
            )
    if layout.kind == "virtual":
        file.report("hdf5-virtual-dataset", "a dataset is put together from other files", name, Severity.READ)
    shape = (*space.dims, *kind.dims)
    if space.null:
        shape = (0,)
    if kind.size * space.count > (reader.window.size + 1024) * MAX_RATIO:
        file.report(
            "hdf5-oversized",
            f"a dataset states {kind.size * space.count:,} bytes in a file of {reader.window.size:,}",
            name,
            Severity.EXHAUST,
        )
    extent = _extent(file, name, storage, kind.size * space.count)
    return Dataset(file, name, address, kind, shape, extent, space, storage, messages)


def _extent(file: File, name: str, storage: Storage, length: int) -> Extent | None:
    reader, layout = file.reader, storage.layout
    if layout.kind not in {"compact", "contiguous"} or layout.address is None or storage.outside or storage.filters:
        return None
    if not reader.inside(layout.address, length) or (layout.size is not None and layout.size < length):
        file.report("hdf5-outside-file", f"the {length:,} bytes of a dataset are not all there", name)
        return None
    return Extent(reader.window.path, reader.position(layout.address), length)
