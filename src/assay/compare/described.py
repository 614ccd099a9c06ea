"""What the descriptions say, where no comparison of files says it: signature, licence, base, requirements, graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.compare.gathering import Gathered, Judgement
from assay.compare.interface import under_old_names
from assay.compare.noise import noise
from assay.compare.requirements import READERS, compare_lists, named
from assay.compare.said import metrics_in_files
from assay.compare.sides import Compared
from assay.compare.signatures import compare_ports
from assay.compare.values import Change, changes
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.description import Component, Description
from assay.spec.inspection import Inspection

_LICENCE = Judgement(Area.LICENCE, Effect.NOTE, "a licence changes what may be done with a model, not what it computes")
_LINEAGE = Judgement(Area.LINEAGE, Effect.NOTE, "where it comes from, not what it is")
_ABOUT = frozenset(
    {
        "description", "name", "author", "graph_description", "min_runtime_version", "CONVERSION_METADATA", "producer",
        "protocol", "opcodes", "compression", "archive_folder", "storages", "license", "version", "short_description",
        "user_defined", "fingerprint",
    }
)  # fmt: skip
"""Metadata of descriptions that says something about the file and nothing about the model."""
_GRAPHS = frozenset({"ops", "opsets", "nodes", "subgraphs", "activations", "signatures", "quantized", "functions"})
_FILE_METRICS = frozenset({"transformers", "sentence-transformers", "peft", "diffusers", "mlflow", "spacy"})
"""Formats whose metrics stand in files that are told as a whole; elsewhere a comparison of the file tells them."""


def compare_descriptions(gathered: Gathered, old: Compared, new: Compared) -> None:
    """Note what differs in the contract and in what the files say about the whole."""
    pair = leading_pair(old.inspection, new.inspection)
    if pair is not None:
        before, after = pair
        for what, was, now in (
            ("inputs", before.inputs, after.inputs),
            ("outputs", before.outputs, after.outputs),
        ):
            compare_ports(gathered, was, tuple(under_old_names(old, new, was, now)), what)
        if after.format in _FILE_METRICS and before.metrics and after.metrics:
            metrics_in_files(gathered, before.metrics, after.metrics, after.format)
    for attribute, judged, path in (("licenses", _LICENCE, "licence"), ("base_models", _LINEAGE, "base models")):
        one, other = (list(side.inspection.first(attribute) or ()) for side in (old, new))
        if one != other:
            kind = ItemKind.ADDED if not one else ItemKind.REMOVED if not other else ItemKind.CHANGED
            gathered.add(judged, path, kind, one or None, other or None)
    _architecture(gathered, old, new)
    _requirements(gathered, old, new)


def leading_pair(old: Inspection, new: Inspection) -> tuple[Description, Description] | None:
    """The descriptions that speak for both sides: the leading ones of the first format that both have, with ports."""
    for found in new.descriptions:
        for other in old.descriptions:
            if other.format == found.format and (found.inputs or found.outputs or other.inputs or other.outputs):
                return other, found
    first = next((found for found in old.descriptions if found.inputs), None)
    second = next((found for found in new.descriptions if found.inputs), None)
    if first is not None and second is not None and first.format != second.format:
        return first, second
    before, after = old.leading, new.leading
    return (before, after) if before is not None and after is not None and before.format == after.format else None


def compare_described(gathered: Gathered, old: Description, new: Description, path: str) -> bool:
    """Note what two descriptions of one file say differently; whether any of it can change behaviour."""
    before, after = _document(old), _document(new)
    found, cut = changes(before, after)

    def judge(change: Change) -> Judgement:
        return _judge(path, change)

    gathered.changes(path, found, judge, cut=cut)
    return any(judge(change).effect is Effect.BEHAVIOUR for change in found)


def _judge(path: str, change: Change) -> Judgement:
    names = [str(key) for key in change.keys]
    why = noise(path, change)
    if why:
        return Judgement(Area.METADATA, Effect.NOTE, why)
    if names[:1] == ["framework_version"]:
        return Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library's own stamp")
    if names[:1] == ["metadata"]:
        if set(names) & _ABOUT:
            return Judgement(Area.METADATA, Effect.NOTE, "about the file, not about what it computes")
        return Judgement(Area.GRAPH if set(names) & _GRAPHS else Area.CONFIG)
    if names[:1] == ["components"]:
        return Judgement(Area.PIPELINE)
    if names[:1] == ["tokenizer"]:
        return Judgement(Area.TOKENIZER)
    if names[:1] == ["preprocessing"]:
        return Judgement(Area.PREPROCESSING)
    return Judgement(Area.ARCHITECTURE if names[:1] == ["architecture"] else Area.CONFIG)


def _document(found: Description) -> dict[str, Any]:
    """What a description says beside tensors, ports and what is told elsewhere."""
    tokenizer = found.tokenizer
    return {
        "architecture": found.architecture,
        "task": found.task,
        "framework_version": found.framework_version,
        "hyperparameters": dict(found.hyperparameters),
        "preprocessing": dict(found.preprocessing),
        "metadata": dict(found.metadata),
        "components": {part.name: _component(part) for part in found.components},
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocabulary_size": tokenizer.vocabulary_size,
            "special_tokens": dict(tokenizer.special_tokens),
            "chat_template": tokenizer.chat_template,
        }
        if tokenizer
        else None,
    }


def _component(part: Component) -> Mapping[str, Any]:
    return {
        "kind": part.kind,
        **part.hyperparameters,
        **part.fitted,
        **{child.name: _component(child) for child in part.children},
    }


def _architecture(gathered: Gathered, old: Compared, new: Compared) -> None:
    """Another architecture, where no file told it already."""
    one, other = (side.inspection.first("architecture") for side in (old, new))
    told = any(item.area is Area.ARCHITECTURE for item in gathered.items)
    leading = [side.inspection.leading for side in (old, new)]
    alike = leading[0] is not None and leading[1] is not None and leading[0].framework == leading[1].framework
    if one and other and one != other and not told and alike:
        gathered.add(Judgement(Area.ARCHITECTURE), "architecture", ItemKind.CHANGED, one, other)


def _requirements(gathered: Gathered, old: Compared, new: Compared) -> None:
    """Libraries that come or go with the kind of file; versions are told by the files that state them."""
    if any(
        item.area is Area.FORMAT and item.path == "format" and item.effect is Effect.NOTE for item in gathered.items
    ):
        return  # the same tensors in another container: what reads files is no requirement of the model
    before, after = (named(_asked(side.inspection)) for side in (old, new))
    one = dict.fromkeys(before, "")
    other = dict.fromkeys(after, "")
    if set(one) - READERS != set(other) - READERS:
        told = {item.path.rpartition(": ")[2] for item in gathered.items if item.area is Area.DEPENDENCIES}
        lost = {name: asked for name, asked in one.items() if name not in told}
        gained = {name: asked for name, asked in other.items() if name not in told}
        compare_lists(gathered, lost, gained, "requirements")


def _asked(inspection: Inspection) -> list[str]:
    speaking = [*([inspection.leading] if inspection.leading else []), *inspection.weights]
    return [item for found in speaking for item in found.requirements]
