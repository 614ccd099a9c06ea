"""CRFsuite models: linear-chain conditional random fields, little-endian.

    header    "lCRF", u32 size of the file, "FOMC", u32 version, u32 features, u32 labels, u32 attributes,
              5 x u32 offsets: features, label names, attribute names, references by label, by attribute
    features  "FEAT", u32 size, u32 count; per feature u32 type, u32 source, u32 target, f64 weight
    names     "CQDB", u32 size, u32 flag, u32 byte order, u32 names, u32 offset of their places; a record is
              u32 id, u32 length with NUL, text, NUL

``parameter_count`` is the number of features: each has one weight.
Source: ``crf1d_model.c`` of CRFsuite 0.12 and ``cqdb.c`` of CQDB.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree, Window

MAX_LABELS = 1000
MAX_NAME = 500

_HEADER = struct.Struct("<4sI4s9I")
_CHUNK = struct.Struct("<4sII")
_NAMES = struct.Struct("<4s5I")
_RECORD = struct.Struct("<II")
_FEATURE_BYTES = 20


class CRFSuiteFormat:
    """Describes CRFsuite models."""

    name = "crfsuite"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if _is_model(tree.head(path))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Counts and label names of one model.

        Raises:
            BadFormat: the header is not whole.
        """
        path = paths[0]
        with guarded("a CRFsuite model", path):
            return _description(tree.open(path), paths)


def _is_model(head: bytes) -> bool:
    return head[:4] == b"lCRF" and head[8:12] == b"FOMC"


def _description(window: Window, paths: tuple[str, ...]) -> Description:
    path = window.path
    _, size, _, version, _, labels, attributes, features_at, labels_at, *_ = _HEADER.unpack(
        window.exactly(0, _HEADER.size)
    )
    findings = []
    if size != window.size:
        message = f"states {size:,} bytes, has {window.size:,}"
        severity = Severity.INCOMPLETE if size > window.size else Severity.MISLEAD
        findings.append(Finding("crfsuite-size", severity, message, path))
    weights: int | None = None
    names: list[str] = []
    try:
        weights = _features(window, features_at)
        names = _labels(window, labels_at, labels)
    except BadFormat as error:
        findings.append(Finding("crfsuite-incomplete", Severity.INCOMPLETE, error.message, path))
    metadata: dict[str, Json] = {"classes": labels, "attributes": attributes, "features": weights}
    if names:
        metadata["class_names"] = list(names)
    return Description(
        format="crfsuite",
        paths=paths,
        format_version=str(version),
        framework="crfsuite",
        architecture="linear-chain CRF",
        task="sequence-labelling",
        parameter_count=weights,
        inputs=(Port("attributes", "string", (None, None)),),
        outputs=(Port("labels", "string", (None,)),),
        requirements=("python-crfsuite",),
        metadata=metadata,
        findings=tuple(findings),
    )


def _features(window: Window, at: int) -> int:
    magic, size, count = _CHUNK.unpack(window.exactly(at, _CHUNK.size))
    if magic != b"FEAT" or count * _FEATURE_BYTES + _CHUNK.size > min(size, window.size - at):
        message = f"expected {count:,} features at offset {at}, found a chunk of {size:,} bytes"
        raise BadFormat(f"{window.path}: {message}", path=window.path, offset=at)
    return int(count)


def _labels(window: Window, at: int, count: int) -> list[str]:
    """The label names by number; *count* as the header says."""
    magic, _, _, _, stated, table = _NAMES.unpack(window.exactly(at, _NAMES.size))
    if magic != b"CQDB" or stated != count:
        message = f"expected {count:,} label names at offset {at}, found {stated:,}"
        raise BadFormat(f"{window.path}: {message}", path=window.path, offset=at)
    listed = min(count, MAX_LABELS)
    names = []
    for place in struct.unpack(f"<{listed}I", window.exactly(at + table, 4 * listed)):
        _, length = _RECORD.unpack(window.exactly(at + place, _RECORD.size))
        text = window.exactly(at + place + _RECORD.size, min(length, MAX_NAME))
        names.append(text.partition(b"\0")[0].decode("utf-8", "replace"))
    return names
