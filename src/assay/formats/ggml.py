"""Legacy GGML model files, from before GGUF (little-endian).

    magic     "ggml", "ggmf" (u32 version), "ggjt" (u32 version), "ggla" (u32 version), written as a u32
    then what one program wrote for itself; known here are
      whisper.cpp      11 x i32, mel filters (2 x i32, f32 ...), vocabulary (i32, per word u32 length + text)
      voice activity   u32 length + name, 3 x u32 version, sizes of the layers
      llama.cpp        7 x i32, vocabulary (per word u32 length + text, f32 score unless "ggml")
      LoRA ("ggla")    i32 rank, i32 alpha
    tensors   to the end: i32 dimensions, i32 name length, i32 type, i32 sizes (innermost first), name,
              padding to 32 ("ggjt", "ggla"), data

A guess about the layout counts only when its tensors end exactly where the file ends. Others are recognised, no more.
Sources: the loaders and converters of whisper.cpp, and of llama.cpp before August 2023.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree, Window

MAX_TENSORS = 100_000
MAX_VOCABULARY = 1_000_000
MAX_NAME = 1024

_MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt", b"algg": "ggla"}
"""As the bytes stand in the file."""
_WHISPER = (
    "n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer", "n_text_ctx", "n_text_state",
    "n_text_head", "n_text_layer", "n_mels", "ftype",
)  # fmt: skip
_LLAMA = ("n_vocab", "n_embd", "n_mult", "n_head", "n_layer", "n_rot", "ftype")
_PLAIN = {0: ("float32", 1, 4), 1: ("float16", 1, 2)}
_NEW = {
    2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34),
    10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
}  # fmt: skip
"""Type: name, elements per block, bytes per block; since the scales are float16."""
_OLD = _NEW | {2: ("q4_0", 32, 20), 3: ("q4_1", 32, 24), 8: ("q8_0", 32, 36)}


class GGMLFormat:
    """Describes legacy GGML files."""

    name = "ggml"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if tree.head(path)[:4] in _MAGICS and tree.size(path) > 16]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Which program's layout it is, its settings and tensors; a finding when none fits."""
        with guarded("a GGML model", paths[0]):
            return _description(tree.open(paths[0]), paths)


@dataclass(slots=True)
class _Guess:
    """One layout that was tried, and how far it led."""

    architecture: str
    settings: dict[str, Json] = field(default_factory=dict)
    words: int | None = None
    tensors: list[TensorSpec] = field(default_factory=list)


def _description(window: Window, paths: tuple[str, ...]) -> Description:
    magic = _MAGICS[window.exactly(0, 4)]
    version = None if magic == "ggml" else int.from_bytes(window.exactly(4, 4), "little")
    found = next(_fitting(window, magic, version), None)
    findings: tuple[Finding, ...] = ()
    if found is None:
        message = "the layout is of a program that is not known; only the magic was understood"
        findings = (Finding("ggml-layout", Severity.INCOMPLETE, message, window.path),)
        found = _Guess("")
    metadata: dict[str, Json] = {"magic": magic, "vocabulary_size": found.words}
    return Description(
        format="ggml",
        paths=paths,
        format_version=f"{magic} {version}" if version is not None else magic,
        framework="ggml",
        architecture=found.architecture or None,
        tensors=tuple(found.tensors),
        hyperparameters=found.settings,
        metadata={key: value for key, value in metadata.items() if value is not None},
        findings=findings,
    )


def _fitting(window: Window, magic: str, version: int | None) -> Iterator[_Guess]:
    """Each known layout under which the tensors end exactly at the end of the file."""
    readers: list[Callable[[_Reader, str], _Guess]] = [_lora] if magic == "ggla" else [_llama]
    if magic == "ggml":
        readers = [_voice_activity, _whisper, _llama]
    for read in readers:
        for types in (_NEW, _OLD):
            reader = _Reader(window, 4 if version is None else 8)
            try:
                guess = read(reader, magic)
                _tensors(reader, guess, _PLAIN | types, 32 if magic in ("ggjt", "ggla") else 1)
            except BadFormat:
                continue
            yield guess


def _whisper(reader: _Reader, _: str) -> _Guess:
    values = reader.integers(len(_WHISPER))
    guess = _Guess("whisper", dict(zip(_WHISPER, values, strict=True)))
    mels, bins = reader.integers(2)
    if mels != values[9] or not 0 < mels <= 1024 or not 0 < bins <= 1 << 16:
        raise reader.bad("no mel filters")
    reader.skip(4 * mels * bins)
    (guess.words,) = reader.integers(1)
    _vocabulary(reader, guess.words, 0)
    return guess


def _voice_activity(reader: _Reader, _: str) -> _Guess:
    (length,) = reader.integers(1)
    if not 0 < length <= 64:
        raise reader.bad("no model name")
    name = reader.take(length)
    if not name.isascii() or not name.decode("ascii").isprintable():
        raise reader.bad("no model name")
    guess = _Guess(name.decode("ascii"))
    guess.settings["version"] = ".".join(str(part) for part in reader.integers(3))
    window, context, layers = reader.integers(3)
    if not 0 < layers <= 64:
        raise reader.bad("no encoder layers")
    guess.settings |= {"window": window, "context": context, "encoder_layers": layers}
    guess.settings["encoder"] = [list(reader.integers(3)) for _ in range(layers)]
    sizes = reader.integers(4)
    guess.settings |= dict(zip(("lstm_input", "lstm_hidden", "final_in", "final_out"), sizes, strict=True))
    return guess


def _llama(reader: _Reader, magic: str) -> _Guess:
    values = reader.integers(len(_LLAMA))
    guess = _Guess("llama", dict(zip(_LLAMA, values, strict=True)), words=values[0])
    _vocabulary(reader, values[0], 0 if magic == "ggml" else 4)
    return guess


def _lora(reader: _Reader, _: str) -> _Guess:
    rank, alpha = reader.integers(2)
    return _Guess("lora adapter", {"r": rank, "lora_alpha": alpha})


def _vocabulary(reader: _Reader, count: int, score: int) -> None:
    if not 0 <= count <= MAX_VOCABULARY:
        raise reader.bad(f"a vocabulary of {count}")
    for _ in range(count):
        (length,) = reader.integers(1)
        if not 0 <= length <= MAX_NAME:
            raise reader.bad(f"a word of {length} bytes")
        reader.skip(length + score)


def _tensors(reader: _Reader, guess: _Guess, types: dict[int, tuple[str, int, int]], alignment: int) -> None:
    names: set[str] = set()
    while reader.left:
        dimensions, length, kind = reader.integers(3)
        if not 0 <= dimensions <= 4 or not 0 < length <= MAX_NAME or kind not in types or len(names) >= MAX_TENSORS:
            raise reader.bad("not a tensor")
        sizes = reader.integers(dimensions)
        name = reader.take(length).decode("utf-8", "replace")
        dtype, elements, size = types[kind]
        count = prod(sizes)
        if min(sizes, default=0) < 0 or count % elements or name in names:
            raise reader.bad("not a tensor")
        reader.align(alignment)
        start, length = reader.position, count // elements * size
        reader.skip(length)
        names.add(name)
        guess.tensors.append(TensorSpec(name, dtype, sizes[::-1], Extent(reader.window.path, start, length)))


class _Reader:
    """A forward reader with a buffer; never takes what is not there."""

    def __init__(self, window: Window, start: int) -> None:
        self.window = window
        self._at = start
        self._chunk, self._base = b"", 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return self.window.size - self._at

    @property
    def position(self) -> int:
        """Where the next byte lies in the entry."""
        return self.window.start + self._at

    def bad(self, message: str) -> BadFormat:
        return BadFormat(f"{self.window.path}: {message}", path=self.window.path, offset=self._at)

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise self.bad(f"expected {length:,} more bytes, found {self.left:,}")
        start = self._at - self._base
        if start < 0 or start + length > len(self._chunk):
            self._base, start = self._at, 0
            self._chunk = self.window.read(self._at, max(length, 4096))
        self._at += length
        return self._chunk[start : start + length]

    def skip(self, length: int) -> None:
        if length > self.left:
            raise self.bad(f"expected {length:,} more bytes, found {self.left:,}")
        self._at += length

    def align(self, alignment: int) -> None:
        self.skip(min(-self._at % alignment, self.left))

    def integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self.take(4 * count))
