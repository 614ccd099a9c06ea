"""A sentencepiece model file: its pieces, what kind of model it is, and its special pieces.

Source of the layout: sentencepiece_model.proto of the sentencepiece project (ModelProto: pieces 1, trainer_spec 2,
normalizer_spec 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from assay.containers.protobuf.message import BYTES, Field, message
from assay.errors import BadFormat
from assay.spec.json import Json
from assay.trees import Window

MAX_PIECES = 2_000_000

_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_UNKNOWN, _CONTROL = 2, 3
_IDS = {40: "unk_token", 41: "bos_token", 42: "eos_token", 43: "pad_token"}
_DEFAULT_IDS = {"unk_token": 0, "bos_token": 1, "eos_token": 2, "pad_token": -1}


@dataclass(slots=True)
class SentencePiece:
    """What the model says.

    Args:
        kind: ``unigram``, ``bpe``, ``word`` or ``char``.
        pieces: in the order of their ids.
        special: role to piece, for the pieces that stand for something else than text.
        settings: normalization and training settings worth showing.
    """

    kind: str = "unigram"
    pieces: list[str] = field(default_factory=list)
    special: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Json] = field(default_factory=dict)


def read_sentencepiece(window: Window) -> SentencePiece:
    """Read a whole model.

    Raises:
        BadFormat: it is not a protobuf message with pieces.
        LimitExceeded: more than ``MAX_PIECES`` of them.
    """
    model = SentencePiece()
    types: list[int] = []
    ids = dict(_DEFAULT_IDS)
    for part in message(window, max_fields=MAX_PIECES):
        if part.wire != BYTES:
            continue
        if part.number == 1:
            text, kind = _piece(part)
            model.pieces.append(text)
            types.append(kind)
        elif part.number == 2:
            _trainer(part, model, ids)
        elif part.number == 3:
            for setting in part:
                if setting.number == 1 and setting.wire == BYTES:
                    model.settings["normalization"] = setting.text(200)
    if not model.pieces:
        raise BadFormat(f"{window.path}: no sentencepiece model: it holds no pieces", path=window.path)
    for role, index in ids.items():
        if 0 <= index < len(model.pieces) and types[index] in {_UNKNOWN, _CONTROL}:
            model.special[role] = model.pieces[index]
    return model


def _trainer(spec: Field, model: SentencePiece, ids: dict[str, int]) -> None:
    for setting in spec:
        if setting.wire == BYTES:
            continue
        if setting.number == 3:
            model.kind = _KINDS.get(setting.integer, "unigram")
        elif setting.number == 35:
            model.settings["byte_fallback"] = bool(setting.integer)
        elif setting.number in _IDS:
            # Ids are int32, -1 for none, which protobuf writes as ten bytes.
            ids[_IDS[setting.number]] = setting.signed


def _piece(part: Field) -> tuple[str, int]:
    """Text and type of a piece; the usual encoding is taken apart directly, there are a quarter million of them."""
    raw = part.read(1 << 16)
    if len(raw) > 2 and raw[0] == 0x0A and raw[1] < 0x80:
        end = 2 + raw[1]
        rest = raw[end:]
        if len(rest) in {5, 7} and rest[0] == 0x15 and (len(rest) == 5 or rest[5] == 0x18):
            return raw[2:end].decode("utf-8", "replace"), rest[6] if len(rest) == 7 else 1
    text, kind = "", 1
    for inner in part:
        if inner.number == 1 and inner.wire == BYTES:
            text = inner.text(1 << 16)
        elif inner.number == 3 and inner.wire != BYTES:
            kind = inner.integer
    return text, kind
