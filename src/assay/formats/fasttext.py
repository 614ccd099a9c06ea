"""fastText models (``.bin``, quantized ``.ftz``), version 12, little-endian.

    i32 magic, i32 version
    args          12 x i32 (dim ws epoch minCount neg wordNgrams loss model bucket minn maxn lrUpdateRate), f64 t
    dictionary    i32 size, i32 words, i32 labels, i64 tokens, i64 pruned; per entry: text, NUL, i64 count, i8 type
                  pruned x (i32, i32)
    u8 quantized  input matrix
    u8 quantized  output matrix
    matrix        i64 rows, i64 columns, f32 ...; quantized: see ``_quantized``

``parameter_count`` counts rows times columns of both matrices, as they are before quantization.
Source: ``fasttext.cc``, ``args.cc``, ``dictionary.cc``, ``quantmatrix.cc``, ``productquantizer.cc`` of fastText 0.9.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree, Window

MAGIC = struct.pack("<i", 793712314)
VERSION = 12
MAX_ENTRIES = 5_000_000
MAX_LABELS = 256
"""Labels that are listed by name."""
MAX_WORD = 1 << 16

_ARGS = struct.Struct("<12id")
_ARG_NAMES = (
    "dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn", "lrUpdateRate",
    "t",
)  # fmt: skip
_LOSSES = {1: "hierarchical softmax", 2: "negative sampling", 3: "softmax", 4: "one versus all"}
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
_DICTIONARY = struct.Struct("<iiiqq")
_ENTRY = re.compile(rb"([^\0]*)\0.{8}([\0\1])", re.DOTALL)
_CHUNK = 1 << 22
_CENTROIDS = 256


class FastTextFormat:
    """Describes fastText models."""

    name = "fasttext"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if tree.head(path)[:4] == MAGIC and tree.size(path) > 8 + _ARGS.size]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Settings, dictionary sizes, labels and matrices of one model.

        Raises:
            BadFormat: the settings are not there.
        """
        path = paths[0]
        with guarded("a fastText model", path):
            return _description(tree.open(path), paths)


@dataclass(slots=True)
class _Model:
    """A model as it is read."""

    words: int = 0
    labels: int = 0
    names: list[str] = field(default_factory=list)
    quantized: bool | None = None
    tensors: list[TensorSpec] = field(default_factory=list)
    parameters: int = 0
    metadata: dict[str, Json] = field(default_factory=dict)


def _description(window: Window, paths: tuple[str, ...]) -> Description:
    path = window.path
    version = int.from_bytes(window.exactly(4, 4), "little")
    values = dict(zip(_ARG_NAMES, _ARGS.unpack(window.exactly(8, _ARGS.size)), strict=True))
    kind = _MODELS.get(int(values["model"]))
    settings: dict[str, Json] = {key: plain(value) for key, value in values.items() if key != "model"}
    settings["loss"] = _LOSSES.get(int(values["loss"]), int(values["loss"]))
    model, findings = _Model(), []
    if version != VERSION:
        message = f"version {version} is not known, read as version {VERSION}"
        findings.append(Finding("fasttext-version", Severity.INCOMPLETE, message, path))
    try:
        _read(_Reader(window, 8 + _ARGS.size), model)
    except BadFormat as error:
        findings.append(Finding("fasttext-incomplete", Severity.INCOMPLETE, error.message, path))
    supervised = kind == "supervised"
    metadata: dict[str, Json] = {"words": model.words, "classes": model.labels, "quantized": model.quantized}
    if model.names:
        metadata["class_names"] = list(model.names[:MAX_LABELS])
    return Description(
        format="fasttext",
        paths=paths,
        format_version=str(version),
        framework="fasttext",
        architecture=kind,
        task="text-classification" if supervised else "feature-extraction",
        tensors=tuple(model.tensors),
        parameter_count=model.parameters or None,
        inputs=(Port("text", "string", (None,)),),
        outputs=(
            Port("labels", "string", (None,)) if supervised else Port("vector", "float32", (None, int(values["dim"]))),
        ),
        hyperparameters=settings,
        requirements=("fasttext",),
        metadata=metadata | model.metadata,
        findings=tuple(findings),
    )


def _read(reader: _Reader, model: _Model) -> None:
    size, words, labels, tokens, pruned = _DICTIONARY.unpack(reader.take(_DICTIONARY.size))
    if not 0 <= size <= MAX_ENTRIES or min(words, labels) < 0 or words + labels != size:
        raise reader.bad(f"expected {words} words and {labels} labels in a dictionary of {size}")
    model.words, model.labels = words, labels
    model.metadata["tokens"] = tokens
    _entries(reader, size, model)
    reader.skip(8 * max(0, pruned))
    model.quantized = bool(reader.take(1)[0])
    (_quantized if model.quantized else _matrix)(reader, model, "input")
    output = bool(reader.take(1)[0])
    (_quantized if model.quantized and output else _matrix)(reader, model, "output")
    if reader.left:
        raise reader.bad(f"{reader.left:,} bytes follow the output matrix")


def _entries(reader: _Reader, count: int, model: _Model) -> None:
    """Walk the dictionary; labels are kept, words are passed over."""
    left, carry = count, b""
    while left:
        chunk = carry + reader.some(_CHUNK)
        if len(chunk) == len(carry) or len(carry) > MAX_WORD:
            raise reader.bad(f"the dictionary ends {left:,} entries early")
        end = 0
        while left and (found := _ENTRY.match(chunk, end)):
            end, left = found.end(), left - 1
            if found[2] == b"\1" and len(model.names) < MAX_LABELS:
                model.names.append(found[1][:200].decode("utf-8", "replace"))
        carry = chunk[end:]
        # Text without its NUL may go on in the next chunk; a type byte that is neither 0 nor 1 never will match.
        nul = carry.find(b"\0")
        if left and nul >= 0 and len(carry) > nul + 9:
            raise reader.bad("a dictionary entry is neither word nor label")
    reader.back(len(carry))


def _matrix(reader: _Reader, model: _Model, name: str) -> None:
    rows, columns = struct.unpack("<qq", reader.take(16))
    if rows < 0 or columns < 0:
        raise reader.bad(f"the {name} matrix has a negative size: {rows} x {columns}")
    model.parameters += rows * columns
    reader.tensor(model, name, "float32", (rows, columns))


def _quantized(reader: _Reader, model: _Model, name: str) -> None:
    """u8 norms?, i64 rows, i64 columns, i32 size, codes; quantizer of the rows; with norms: codes, quantizer."""
    norms, rows, columns, size = struct.unpack("<?qqi", reader.take(21))
    if min(rows, columns, size) < 0:
        raise reader.bad(f"the {name} matrix has a negative size: {rows} x {columns}, {size} codes")
    parts = size // rows if rows else 0
    shape = (rows, parts) if parts * rows == size else (size,)
    reader.tensor(model, f"{name}.codes", "uint8", shape)
    _quantizer(reader, model, f"{name}.centroids")
    if norms:
        reader.tensor(model, f"{name}.norm_codes", "uint8", (rows,))
        _quantizer(reader, model, f"{name}.norm_centroids")
    model.parameters += rows * columns


def _quantizer(reader: _Reader, model: _Model, name: str) -> None:
    (dim, *_) = struct.unpack("<4i", reader.take(16))
    if dim < 0:
        raise reader.bad(f"{name} have a negative size: {dim}")
    reader.tensor(model, name, "float32", (dim * _CENTROIDS,))


class _Reader:
    """A forward reader over a window that never takes what is not there."""

    def __init__(self, window: Window, start: int) -> None:
        self._window = window
        self._at = start

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return self._window.size - self._at

    def bad(self, message: str) -> BadFormat:
        return BadFormat(f"{self._window.path}: {message}", path=self._window.path, offset=self._at)

    def take(self, length: int) -> bytes:
        data = self._window.exactly(self._at, length)
        self._at += length
        return data

    def some(self, length: int) -> bytes:
        data = self._window.read(self._at, length)
        self._at += len(data)
        return data

    def back(self, length: int) -> None:
        self._at -= length

    def skip(self, length: int) -> None:
        if length > self.left:
            raise self.bad(f"expected {length:,} more bytes, found {self.left:,}")
        self._at += length

    def tensor(self, model: _Model, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        spec = TensorSpec(name, dtype, shape)
        length = spec.nbytes or 0
        start = self._window.start + self._at
        self.skip(length)
        model.tensors.append(TensorSpec(name, dtype, shape, Extent(self._window.path, start, length)))
