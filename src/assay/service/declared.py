"""What statements say about where an artifact came from, in few words, and remembered.

A statement never changes, so what it says is read once: a file of the home keeps a line per statement, known by the
digest of the statement's manifest. The file may be deleted; what is missing is read again.

    lineage/declared-1.jsonl    {"statement": "sha256:…", "says": {…}}
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.later import later
from assay.spec.json import Json, canonical
from assay.spec.lineage import Relation, Source
from assay.spec.report import Verdict
from assay.spec.statement import Statement

if TYPE_CHECKING:
    from assay.containers import documents
else:
    documents = later("assay.containers.documents")

FILE = "declared-1.jsonl"
"""The number goes up whenever more or something else is read out of a statement."""
KINDS = ("base", "run", "description", "audit")
"""Kinds of statement that say something about lineage, or about whether a node of it may be relied on."""
_CARD = {
    "adapter": Relation.ADAPTER_OF,
    "merge": Relation.MERGED_FROM,
    "quantized": Relation.QUANTIZED_FROM,
    "finetune": Relation.FINETUNED_FROM,
}
"""Words of ``base_model_relation`` in a model card."""
_OWN_NAMES = ("general.repo_url", "general.url")
"""Keys of GGUF files that say where this very model is published."""
_SOURCES = ("general.source.repo_url", "general.source.url")
"""Keys of GGUF files that say what the file was converted from."""
_BASE = ("relation", "name", "manifest", "source", "evidence", "retracted", "revision")
_RUN = ("system", "run_id", "uri", "source", "extra")
"""Fields that are remembered: a statement may have come from anywhere, and hold anything."""
_LONGEST = 1000
_FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})


class Declared:
    """What statements say, by the digest of the statement's manifest.

    Args:
        folder: the home's folder for it; None remembers nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / FILE if folder is not None else None
        self._known = dict(_lines(self._file)) if self._file is not None else {}
        self._new: list[bytes] = []

    def get(self, statement: str) -> Mapping[str, Json] | None:
        """What a statement says; None when it is not known yet."""
        return self._known.get(statement)

    def add(self, statement: str, read: Statement) -> Mapping[str, Json]:
        """Read a statement, and remember it at the next ``save``."""
        says = self._known[statement] = said(read)
        self._new.append(_line(statement, says))
        return says

    def save(self) -> None:
        """Append what is new; a home that cannot be written is read all the same."""
        if self._file is None or not self._new:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as stream:
                # In front a line end, so that a line which a crash cut off spoils only itself.
                stream.write(b"\n" + b"".join(self._new))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            return
        self._new.clear()

    def forget(self, statements: Collection[str]) -> None:
        """Remember nothing of some statements, for instance because what they are about was purged."""
        if self._file is None or not any(statement in self._known for statement in statements):
            return
        self._known = {statement: says for statement, says in self._known.items() if statement not in statements}
        lines = [_line(statement, says) for statement, says in self._known.items()]
        handle, scratch = tempfile.mkstemp(dir=self._file.parent, prefix=".")
        with os.fdopen(handle, "wb") as stream:
            stream.write(b"".join(lines))
        shutil.copymode(self._file, scratch)  # others may share the home
        Path(scratch).replace(self._file)


def said(statement: Statement) -> dict[str, Json]:
    """What one statement says about lineage."""
    body = statement.predicate
    if statement.kind == "base":
        return {"bases": [_short({key: body[key] for key in _BASE if key in body})]}
    if statement.kind == "run":
        return {"run": _short({key: body[key] for key in _RUN if key in body})}
    if statement.kind == "audit":
        verdict = _text(body.get("verdict"))
        known = verdict if verdict in {found.value for found in Verdict} else Verdict.UNVERIFIED.value
        return {"audit": {"verdict": known, "summary": _text(body.get("summary"))[:_LONGEST]}}
    models = [model for model in _list(body.get("models")) if isinstance(model, Mapping)]
    bases: dict[tuple[str, str], Json] = {}
    names: list[Json] = []
    for model in models:
        metadata = _mapping(model.get("metadata"))
        names += [metadata[key] for key in _OWN_NAMES if isinstance(metadata.get(key), str)]
        for name, relation, where in _named(model, metadata, models):
            evidence: Json = {"format": _text(model.get("format")), "where": where}
            bases.setdefault(
                (name, relation),
                {"name": name, "relation": relation.value, "source": Source.FILES.value, "evidence": evidence},
            )
    return {"bases": list(bases.values()), "names": names}


def _named(
    model: Mapping[str, Json], metadata: Mapping[str, Json], models: Sequence[Mapping[str, Json]]
) -> Iterator[tuple[str, Relation, str]]:
    """Bases that one description names: name, relation, and where it stands."""
    named = [name for name in _list(model.get("base_models")) if isinstance(name, str) and name.strip()]
    stated = _CARD.get(_text(metadata.get("card_base_model_relation")))
    quantized = any(_quantized(one) for one in models)
    adapter = next((one for one in models if one.get("format") == "peft"), None)
    for name in named:
        if model.get("format") == "peft":
            # Only the adapter's own settings name what it changes; its card may name more.
            own = name == named[0]
            yield name, Relation.ADAPTER_OF if own else stated or Relation.ADAPTER_OF, "adapter_config.json or card"
        elif stated is not None:
            yield name, stated, "base_model_relation of the card"
        elif len(named) > 1:
            yield name, Relation.MERGED_FROM, "several base models"
        elif adapter is not None and not model.get("architecture"):
            yield name, Relation.ADAPTER_OF, "base model of an adapter's file"
        elif model.get("format") == "gguf" and not _same_model(name, metadata):
            # The header's base_model is what the model was made from before it was converted.
            yield name, Relation.FINETUNED_FROM, "general.base_model"
        else:
            yield name, Relation.QUANTIZED_FROM if quantized else Relation.FINETUNED_FROM, "base model"
    for key in _SOURCES:
        if _text(metadata.get(key)):
            relation = Relation.QUANTIZED_FROM if _quantized(model) else Relation.CONVERTED_FROM
            yield _text(metadata[key]), relation, key
            break


def _quantized(model: Mapping[str, Json]) -> bool:
    """Whether the weights are stored in fewer bits than they were trained in, as far as the description says."""
    metadata, settings = _mapping(model.get("metadata")), _mapping(model.get("hyperparameters"))
    if metadata.get("quantization_names") or settings.get("quantization_config"):
        return True
    counts = {dtype: count for dtype, count in _mapping(model.get("dtypes")).items() if isinstance(count, int)}
    floats = sum(count for dtype, count in counts.items() if dtype in _FLOATS)
    return model.get("format") in {"gguf", "onnx", "tflite"} and 2 * floats < sum(counts.values())


def _same_model(base: str, metadata: Mapping[str, Json]) -> bool:
    """Whether a GGUF file's base is the model itself in another form: then its own name is the base's name."""
    own = _text(metadata.get("general.name"))
    return bool(own) and _letters(own) == _letters(base.rstrip("/").rpartition("/")[2])


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _line(statement: str, says: Mapping[str, Json]) -> bytes:
    return canonical({"statement": statement, "says": says}) + b"\n"


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Json]]]:
    """Statement and what it says, of every whole line."""
    try:
        data = file.read_bytes()
    except OSError:
        return
    for line in data.splitlines():
        try:
            body = json.loads(line)
            yield str(body["statement"]), dict(body["says"])
        except (ValueError, KeyError, TypeError):
            continue


def _short(body: Mapping[str, Json]) -> Json:
    return documents.plain(body, text=_LONGEST, items=100, depth=5)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list) else ()


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
