"""What is fuzzed, and what must hold for every input. ``tools/fuzz.py`` runs it, ``tests/fuzz`` replays its corpus.

A target takes bytes and says in one line what came of them; inputs with the same line are taken to be alike when a
corpus is chosen. Whatever breaks a promise leaves as an exception that is not ``AssayError``.

An input that begins with ``#@ `` is several files: each begins with a line ``#@ NAME``. Any other is one file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date
from functools import cache, partial

import numpy as np
import zstandard
from blake3 import blake3
from fuzz_unpickler import Unpickler

from assay.containers import compressed, documents, flatbuffers, npy, sstable, tar, ubjson
from assay.containers.archive import open_archive
from assay.containers.hdf5.file import Dataset, File
from assay.containers.pickle import parse as pickles
from assay.containers.protobuf.message import BYTES, Field, message
from assay.errors import AssayError
from assay.formats.registry import all_formats
from assay.loaders.allowed import canonical_module, table
from assay.loaders.allowed_calls import CLASSES, FUNCTIONS
from assay.packing import codec, directory
from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT
from assay.policy.reading import read_policy
from assay.service.audit import Auditing, report
from assay.service.examine import inspect
from assay.spec.bundle import Bundle
from assay.spec.inspection import description_json
from assay.spec.json import canonical
from assay.spec.manifest import Manifest
from assay.spec.report import Report, Verdict
from assay.trees import BytesWindow, Tree
from assay.wiring.auditing import auditing

Target = Callable[[bytes], str]

SECONDS = 2.0
"""Processor time one input may take."""
BUDGET = 64 << 20
"""Bytes that may be read of one input, decompressed ones included."""

_NAMES = {
    "lightgbm": "model.txt",
    "openvino": "model.xml",
    "keras-h5": "model.h5",
    "keras": "model.keras",
    "npz": "model.npz",
    "onnx": "model.onnx",
    "pmml": "model.pmml",
    "safetensors": "model.safetensors",
    "tensorflow-savedmodel": "saved_model.pb",
    "transformers": "config.json",
    "torchserve": "model.mar",
    "mlflow": "MLmodel",
    "pickle": "model.pkl",
}
_UNPICKLED = frozenset({"pickle", "pytorch", "torch-package", "torchserve"})
_SEPARATOR = b"#@ "
_DEPTH = 6


class Broken(AssertionError):
    """A promise did not hold."""


def bundle(files: Mapping[str, bytes]) -> bytes:
    """Several files as one input."""
    return b"".join(_SEPARATOR + name.encode() + b"\n" + data + b"\n" for name, data in files.items())


def files_of(data: bytes, name: str) -> dict[str, bytes]:
    """The files that an input means; a lone one is called *name*."""
    if not data.startswith(_SEPARATOR):
        return {name: data}
    files = {}
    for part in data[len(_SEPARATOR) :].split(b"\n" + _SEPARATOR):
        path, _, content = part.partition(b"\n")
        files[path.decode("utf-8", "replace") or "m"] = content.removesuffix(b"\n")
    return files


@cache
def targets() -> Mapping[str, Target]:
    """Every target by name: one for each format, one for all of them together, one for each parser below them."""
    everything = auditing()
    found: dict[str, Target] = {
        form.name: partial(
            audited,
            auditing=everything if form.name in _UNPICKLED else replace(everything, formats=(form,)),
            name=_NAMES.get(form.name, "model.bin"),
        )
        for form in all_formats()
    }
    return found | {
        "audit": partial(audited, auditing=everything, name="model.bin"),
        "pickle-machine": machine,
        "zip": unzipped,
        "tar": untarred,
        "hdf5-file": hdf5_read,
        "protobuf": protobuf_walked,
        "flatbuffers": flatbuffer_walked,
        "ubjson": lambda data: f"{type(ubjson.load(BytesWindow(data, 'm'))).__name__}",
        "npy": lambda data: f"{npy.parse_npy(BytesWindow(data, 'm')).dtype}"[:20],
        "sstable": lambda data: f"{sum(1 for _ in sstable.entries(BytesWindow(data, 'm')))} entries",
        "compressed": lambda data: "+".join(compressed.unwrap(BytesWindow(data, "m"), 16 << 20).codecs),
        "json": lambda data: type(documents.parse_json(data, "m").value).__name__,
        "yaml": lambda data: type(documents.parse_yaml(data.decode("utf-8", "replace"), "m")).__name__,
        "policy": lambda data: f"{len(read_policy(data.decode('utf-8', 'replace'), name='m').rules)} rules",
        "report": report_read,
        "signature-bundle": lambda data: f"{type(Bundle.parse(data)).__name__}",
        "manifest": lambda data: f"{type(Manifest.parse(data)).__name__}",
        "pack-directory": pack_directory,
        "pack-block": pack_block,
    }


def check(name: str, data: bytes, *, slack: float = 1.0) -> str:
    """Give *data* to a target; what came of it.

    Args:
        name: of the target.
        data: the input.
        slack: by how much the process is slower than usual, because it counts branches for instance.

    Raises:
        Broken: it took longer than ``SECONDS``.
        Exception: whatever else must not happen.
    """
    started = time.process_time()
    try:
        outcome = targets()[name](data)
    except AssayError as error:
        outcome = f"{type(error).__name__} {error.code}"
    taken = time.process_time() - started
    if taken > SECONDS * slack:
        raise Broken(f"{name}: {len(data)} bytes took {taken:.1f} s")
    return outcome


def audited(data: bytes, *, auditing: Auditing, name: str) -> str:
    """Audit an input; every promise about reports and descriptions is checked."""
    tree = Tree.of(files_of(data, name), limit=BUDGET)
    inspection = inspect(tree, auditing.formats)
    for described in inspection.descriptions:
        canonical(description_json(described))
        for spec in described.tensors:
            if spec.extent and spec.extent.offset + spec.extent.length > tree.size(spec.extent.path):
                raise Broken(f"{described.format}: the extent of {spec.name!r} ends after {spec.extent.path}")
    found = report(tree, inspection, auditing)
    if Report.parse(json.loads(json.dumps(found.to_json(), allow_nan=False).encode())) != found:
        raise Broken("the report does not read back as it was written")
    if tree.budget.used > tree.budget.limit:
        raise Broken(f"{tree.budget.used:,} bytes were read of a budget of {tree.budget.limit:,}")
    decision = decide(found, [DEFAULT], subject=None, today=date(2026, 1, 1))
    if decision.verdict is Verdict.SAFE and _UNPICKLED.intersection(found.formats):
        _names_are_allowed(tree, (described.format for described in inspection.descriptions))
    rules = sorted({finding.rule for finding in found.findings})
    return " ".join([decision.verdict, *found.formats, *rules])


def _names_are_allowed(tree: Tree, formats: Iterable[str]) -> None:
    """No file of a safe tree makes the real unpickler resolve a name outside the table."""
    if set(formats) != {"pickle"}:
        return  # inside archives and beside raw arrays other readers decide where a pickle begins
    for path in tree.paths:
        content = tree.open(path)
        if pickles.looks_like_pickle(content.read(0, 4096)):
            forbidden = forbidden_names(content.read())
            if forbidden:
                raise Broken(f"safe, but unpickling would resolve {sorted(forbidden)}")


_unpickler = Unpickler()


def forbidden_names(data: bytes) -> set[tuple[str, str]]:
    """Names that the real unpickler resolves in *data* and that no table allows."""
    return {pair for pair in _unpickler.names(data) or () if not _allowed(*pair)}


def _allowed(module: str, name: str) -> bool:
    pair = (canonical_module(module), name)
    return pair in table() or pair in FUNCTIONS or pair in CLASSES


def machine(data: bytes) -> str:
    """Run the symbolic machine; it sees at least the names that the real unpickler resolves before it stops."""
    parsed = pickles.parse(BytesWindow(data, "m"))
    if parsed.complete and not parsed.findings:
        named = {(use.global_.module, use.global_.name) for use in parsed.globals}
        real = _unpickler.names(data[: parsed.end])
        missed = {pair for pair in real or () if pair not in named and not _renamed(pair, named)}
        if missed:
            raise Broken(f"the real unpickler resolves {sorted(missed)}, the machine saw {sorted(named)}")
    rules = sorted({finding.rule for finding in parsed.findings})
    return " ".join([f"protocol {parsed.protocol}", f"globals {bool(parsed.globals)}", *rules])


def _renamed(pair: tuple[str, str], named: set[tuple[str, str]]) -> bool:
    """Whether the pair is what Python 3 calls one of *named*."""
    import _compat_pickle

    return any(
        pair == _compat_pickle.NAME_MAPPING.get(old, (_compat_pickle.IMPORT_MAPPING.get(old[0], old[0]), old[1]))
        for old in named
    )


def unzipped(data: bytes) -> str:
    """Open a zip and read every member."""
    tree = Tree.of({"m.zip": data}, limit=BUDGET)
    archive = open_archive(tree, "m.zip")
    read = 0
    for member in archive.members:
        try:
            read += len(archive.read(member.name)) > 0
        except AssayError:
            continue
    return " ".join([f"{min(read, 9)} members", *sorted({finding.rule for finding in archive.findings})])


def untarred(data: bytes) -> str:
    """Read the headers of a tar."""
    members, findings = tar.read_tar(BytesWindow(data, "m.tar"))
    kinds = sorted({member.kind.value for member in members})
    return " ".join([*kinds, *sorted({finding.rule for finding in findings})])


def hdf5_read(data: bytes) -> str:
    """Visit every object and read every dataset."""
    file = File(BytesWindow(data, "m.h5"))
    for _, item in file.walk():
        assert item.attributes is not None
        if isinstance(item, Dataset):
            try:
                item.read()
            except AssayError:
                continue
    return " ".join(sorted({finding.rule for finding in file.findings}))


def protobuf_walked(data: bytes) -> str:
    """Walk every field, taking each length-delimited one for a message where it can be one."""

    def walk(field: Field, depth: int) -> int:
        count = 0
        for inner in field:
            count += 1
            if inner.wire == BYTES and depth:
                try:
                    count += walk(inner, depth - 1)
                except AssayError:
                    inner.text()
        return count

    return f"{min(walk(message(BytesWindow(data, 'm'), max_fields=100_000), _DEPTH), 99)} fields"


def flatbuffer_walked(data: bytes) -> str:
    """Take every slot of every table in turn for a table, a string and a vector."""
    buffer = flatbuffers.FlatBuffer(BytesWindow(data, "m"), max_values=20_000)

    def walk(table_: flatbuffers.Table, depth: int) -> int:
        count = 1
        for slot in range(8):
            for take in (table_.table, table_.tables):
                try:
                    taken = take(slot)
                    for inner in [taken] if isinstance(taken, flatbuffers.Table) else taken or ():
                        count += walk(inner, depth - 1) if depth else 0
                except AssayError:
                    continue
            try:
                table_.string(slot)
            except AssayError:
                continue
        return count

    return f"{min(walk(buffer.root(), 3), 99)} tables"


def report_read(data: bytes) -> str:
    """Read a report as a stored one is read."""
    body = documents.parse_json(data, "m").value
    found = Report.parse(body if isinstance(body, dict) else {})
    if Report.parse(found.to_json()) != found:
        raise Broken("the report does not read back as it was written")
    return f"{len(found.findings)} findings"


def pack_directory(text: bytes) -> str:
    """Read a directory of a pack; digests would hide everything else, so that they are made to fit."""
    stored = zstandard.ZstdCompressor(level=1).compress(text)
    found = directory.decode(stored, blake3(stored).digest())
    at, depths = len(directory.MAGIC), {}
    for segment in found.segments:
        if segment.offset != at or segment.id in depths:
            raise Broken(f"segment {segment.id.hex()} lies at {segment.offset}, not at {at}, or twice")
        if segment.base is not None and segment.depth <= depths.get(segment.base, 0):
            raise Broken(f"segment {segment.id.hex()} is not deeper than its base")
        if segment.size > segment.stored * codec.BLOCK:
            raise Broken(f"segment {segment.id.hex()}: {segment.stored} bytes cannot be {segment.size}")
        at, depths[segment.id] = at + segment.stored, segment.depth
    sizes = {segment.id: segment.size for segment in found.segments}
    for blob in found.blobs:
        if all(part in sizes for part in blob.parts) and sum(sizes[part] for part in blob.parts) != blob.size:
            raise Broken(f"blob {blob.digest} does not add up")
    again = directory.encode(found)
    if directory.decode(again, blake3(again).digest()) != found:
        raise Broken("a directory is not read as it was written")
    return f"{len(found.segments)} segments, {len(found.blobs)} blobs, {len(found.hints)} hints"


def pack_block(data: bytes) -> str:
    """Decode a block: width and rotation, whether there is a base, number of words, then what is stored."""
    if len(data) < 3:
        return "short"
    width, rotate, based = 1 << (data[0] & 3), bool(data[0] & 4) and data[0] & 3 > 0, bool(data[0] & 8)
    count = int.from_bytes(data[1:3], "little") + 1
    into = np.full(count * width, 0xA5, np.uint8)
    base = np.arange(len(into), dtype=np.uint32).view(np.uint8)[: len(into)].copy() if based else None
    words = codec.Words(width, rotate=rotate)
    codec.decode(memoryview(data[3:]), words, into, base=base)
    stored = b"".join(bytes(part) for part in codec.encode(into, words, base=base, ordered=data[3] == codec.ORDERED))
    again = np.empty_like(into)
    codec.decode(memoryview(stored), words, again, base=base)
    if not np.array_equal(into, again):
        raise Broken("a block is not decoded to what was encoded")
    return f"kind {data[3]} width {width} rotate {rotate} modes {sorted(set(data[4 : 4 + 5 * width : 5]))}"
