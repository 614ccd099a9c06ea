"""Tokenizers: vocabularies, merges, special tokens, templates, and the rules around them.

Read from ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` with ``merges.txt`` and SentencePiece models. Vocabularies
are compared as mappings from token to id, however many files hold them and in which form.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from posixpath import basename, dirname
from typing import Any

from assay.compare.documents import compare_documents, judge_document
from assay.compare.gathering import Gathered, Judgement, examples
from assay.compare.texts import diff
from assay.compare.values import changes
from assay.containers.documents import read_json
from assay.containers.guard import guarded
from assay.containers.protobuf.message import BYTES, message
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.figures import plural
from assay.trees import Tree, Window

MAX_FILE = 128 << 20
"""Bytes of one file of a tokenizer that are read: a quarter of a million tokens with their merges take about 20 MB."""

_TOKENIZER = Judgement(Area.TOKENIZER)
_SAME = "the same vocabulary in another file"
_FORMS = ("tokenizer.json", "vocab.txt", "vocab.json")


def compare_tokenizer_file(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    """Note what changed between two files of a tokenizer whose bytes differ."""
    name = basename(path)
    try:
        with guarded("a tokenizer", path):
            if name == "tokenizer.json":
                _tokenizer_json(gathered, old, new, path)
            elif name == "vocab.txt":
                pair = [_lines(window) for window in (old, new)]
                _told_or_same(gathered, path, compare_vocabularies(gathered, _ids(pair[0]), _ids(pair[1]), path))
            elif name == "vocab.json":
                pair_ = [_mapping(read_json(window, MAX_FILE).value) for window in (old, new)]
                _told_or_same(gathered, path, compare_vocabularies(gathered, pair_[0], pair_[1], path))
            elif name == "merges.txt":
                merges = [[line for line in _lines(window) if not line.startswith("#version")] for window in (old, new)]
                _told_or_same(gathered, path, compare_merges(gathered, merges[0], merges[1], path))
            elif name.endswith((".model", ".spm")):
                _sentencepiece(gathered, old, new, path)
            elif name == "chat_template.jinja":
                _text(gathered, old, new, path)
            else:
                _settings(gathered, old, new, path)
    except AssayError as error:
        gathered.unread(path, error.message, Area.TOKENIZER)


def compare_vocabularies(gathered: Gathered, old: Mapping[str, int], new: Mapping[str, int], path: str) -> bool:
    """Note tokens added, removed and renumbered; whether there were any."""
    added = [token for token in new if token not in old]
    removed = [token for token in old if token not in new]
    moved = [token for token, at in old.items() if token in new and new[token] != at]
    parts = [
        f"{plural(len(tokens), 'token')} {what} ({examples(map(repr, tokens))})"
        for tokens, what in ((added, "added"), (removed, "removed"), (moved, "renumbered"))
        if tokens
    ]
    if parts:
        gathered.add(_TOKENIZER, path, ItemKind.CHANGED, len(old), len(new), "; ".join(parts))
    return bool(parts)


def compare_merges(gathered: Gathered, old: Sequence[str], new: Sequence[str], path: str) -> bool:
    """Note merges added, removed and reordered; whether there were any."""
    before, after = set(old), set(new)
    added = [merge for merge in new if merge not in before]
    removed = [merge for merge in old if merge not in after]
    parts = [
        f"{len(merges):,} merges {what} ({examples(map(repr, merges))})"
        for merges, what in ((added, "added"), (removed, "removed"))
        if merges
    ]
    if [merge for merge in old if merge in after] != [merge for merge in new if merge in before]:
        parts.append("the order of merges changed")
    if parts:
        gathered.add(_TOKENIZER, path, ItemKind.CHANGED, len(old), len(new), "; ".join(parts))
    return bool(parts)


def alone(gathered: Gathered, path: str, kind: ItemKind, old: Tree, new: Tree) -> None:
    """Note a file of a tokenizer that only one side has: a note when the other side has its vocabulary elsewhere."""
    tree, other = (old, new) if kind is ItemKind.REMOVED else (new, old)
    judged = _TOKENIZER
    if basename(path) in _FORMS:
        mine, theirs = vocabulary(tree, path), _any_vocabulary(other, dirname(path))
        if mine and mine == theirs:
            judged = Judgement(Area.TOKENIZER, Effect.NOTE, _SAME)
    elif basename(path) == "merges.txt" and _any_merges(other, dirname(path)) == _merges_of(tree, path):
        judged = Judgement(Area.TOKENIZER, Effect.NOTE, "the same merges in another file")
    elif basename(path) in {"special_tokens_map.json", "added_tokens.json"} and _said_elsewhere(tree, other, path):
        judged = Judgement(Area.TOKENIZER, Effect.NOTE, "the other side says the same in tokenizer_config.json")
    gathered.add(judged, path, kind)


def vocabulary(tree: Tree, path: str) -> dict[str, int] | None:
    """The vocabulary that one file holds, or None when it holds none that is understood."""
    try:
        with guarded("a tokenizer", path):
            if basename(path) == "vocab.txt":
                return _ids(_lines(tree.open(path)))
            value = _mapping(read_json(tree.open(path), MAX_FILE).value)
            if basename(path) == "vocab.json":
                return value
            return _vocabulary(_mapping(value.get("model")))[0]
    except AssayError:
        return None


def _any_vocabulary(tree: Tree, folder: str) -> dict[str, int] | None:
    for form in _FORMS:
        path = f"{folder}/{form}" if folder else form
        found = vocabulary(tree, path) if path in tree else None
        if found:
            return found
    return None


def _merges_of(tree: Tree, path: str) -> list[str]:
    return [line for line in _lines(tree.open(path)) if not line.startswith("#version")]


def _any_merges(tree: Tree, folder: str) -> list[str] | None:
    path = f"{folder}/tokenizer.json" if folder else "tokenizer.json"
    if path not in tree:
        return None
    try:
        with guarded("a tokenizer", path):
            return _merges(_mapping(_mapping(read_json(tree.open(path), MAX_FILE).value).get("model")))
    except AssayError:
        return None


def _said_elsewhere(tree: Tree, other: Tree, path: str) -> bool:
    """Whether the other side says it in its ``tokenizer_config.json``, where newer libraries keep it."""
    beside = Tree.sibling(path, "tokenizer_config.json")
    if basename(path) != "special_tokens_map.json" or beside not in other:
        return False
    try:
        mine, theirs = (_mapping(read_json(one.open(name)).value) for one, name in ((tree, path), (other, beside)))
    except AssayError:
        return False
    return all(_content(theirs.get(role)) == _content(token) for role, token in mine.items())


def _content(token: Any) -> Any:
    """The text of a special token, which is kept alone or with its settings."""
    return token.get("content") if isinstance(token, Mapping) else token


def _tokenizer_json(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    pair = [_mapping(read_json(window, MAX_FILE).value) for window in (old, new)]
    models = [_mapping(body.get("model")) for body in pair]
    (before, scores), (after, rescored) = (_vocabulary(model) for model in models)
    told = compare_vocabularies(gathered, before, after, f"{path}: vocabulary")
    if not told and scores != rescored:
        count = sum(one != other for one, other in zip(scores, rescored, strict=False))
        gathered.add(_TOKENIZER, f"{path}: vocabulary", ItemKind.CHANGED, text=f"scores of {count:,} tokens changed")
        told = True
    told |= compare_merges(gathered, _merges(models[0]), _merges(models[1]), f"{path}: merges")
    rest = [
        {**body, "model": {k: v for k, v in model.items() if k not in {"vocab", "merges"}}}
        for body, model in zip(pair, models, strict=True)
    ]
    found, cut = changes(*rest)
    gathered.changes(path, found, judge_document(path), cut=cut)
    _told_or_same(gathered, path, told or bool(found))


def _vocabulary(model: Mapping[str, Any]) -> tuple[dict[str, int], list[float]]:
    """Token to id, and scores where the model has them."""
    vocab = model.get("vocab")
    if isinstance(vocab, Mapping):
        return dict(vocab), []
    if isinstance(vocab, list):
        return {str(entry[0]): at for at, entry in enumerate(vocab)}, [entry[1] for entry in vocab]
    return {}, []


def _merges(model: Mapping[str, Any]) -> list[str]:
    """Merges, which are kept as text or as pairs."""
    merges = model.get("merges")
    return (
        [merge if isinstance(merge, str) else " ".join(merge) for merge in merges] if isinstance(merges, list) else []
    )


def _sentencepiece(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    """A ModelProto of SentencePiece: pieces (field 1: text 1, score 2, type 3), then settings in fields 2 to 5."""
    pair = [_pieces(window) for window in (old, new)]
    (before, said, rest), (after, also, others) = pair
    told = compare_vocabularies(gathered, before, after, f"{path}: pieces")
    if not told and said != also:
        count = sum(one != other for one, other in zip(said, also, strict=False))
        gathered.add(
            _TOKENIZER, f"{path}: pieces", ItemKind.CHANGED, text=f"scores or types of {count:,} pieces changed"
        )
        told = True
    if rest != others:
        gathered.add(_TOKENIZER, f"{path}: settings", ItemKind.CHANGED, text="how text is normalised or split differs")
        told = True
    _told_or_same(gathered, path, told)


def _pieces(window: Window) -> tuple[dict[str, int], list[tuple[float, int]], list[bytes]]:
    ids: dict[str, int] = {}
    said: list[tuple[float, int]] = []
    rest: list[bytes] = []
    if window.size > MAX_FILE:
        raise ValueError(f"longer than {MAX_FILE:,} bytes")
    for one in message(window):
        if one.number != 1 or one.wire != BYTES:
            rest.append(struct.pack("<I", one.number) + (one.read() if one.wire == BYTES else str(one.value).encode()))
            continue
        text, score, kind = "", 0.0, 1
        for inner in one:
            if inner.number == 1:
                text = inner.text()
            elif inner.number == 2:
                score = inner.real
            elif inner.number == 3:
                kind = inner.integer
        ids[text] = len(said)
        said.append((score, kind))
    return ids, said, rest


def _settings(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    """``tokenizer_config.json`` and its like: the template as text, all else path by path."""
    pair = [read_json(window, MAX_FILE).value for window in (old, new)]
    templates = [body.get("chat_template") if isinstance(body, Mapping) else None for body in pair]
    if all(isinstance(template, str) for template in templates) and templates[0] != templates[1]:
        text = diff(str(templates[0]), str(templates[1]))
        gathered.add(_TOKENIZER, f"{path}: chat_template", ItemKind.CHANGED, text=text)
        bodies = [{key: value for key, value in _mapping(body).items() if key != "chat_template"} for body in pair]
        found, cut = changes(*bodies)
        gathered.changes(path, found, judge_document(path), cut=cut)
    else:
        compare_documents(gathered, old, new, path)


def _text(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    texts = [window.read(0, MAX_FILE).decode("utf-8", "replace") for window in (old, new)]
    gathered.add(_TOKENIZER, path, ItemKind.CHANGED, text=diff(*texts))


def _told_or_same(gathered: Gathered, path: str, told: bool) -> None:  # noqa: FBT001 - private
    if not told:
        why = "the same values, written differently"
        gathered.add(Judgement(Area.TOKENIZER, Effect.NOTE, why), path, ItemKind.CHANGED)


def _lines(window: Window) -> list[str]:
    if window.size > MAX_FILE:
        raise ValueError(f"longer than {MAX_FILE:,} bytes")
    return window.read().decode("utf-8").replace("\r\n", "\n").rstrip("\n").split("\n")


def _ids(lines: Iterable[str]) -> dict[str, int]:
    return {line: at for at, line in enumerate(lines)}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
