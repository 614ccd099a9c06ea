"""Everything understood about one tree: the descriptions of all models in it, and their sum.

The JSON form is written format ``docs/spec/description.md``: it is what ``assay inspect --json`` prints and what the
``description`` statement of an artifact holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.spec.description import Component, Description, Port, RunLink, Tokenizer
from assay.spec.finding import Finding
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

SCHEMA = 1
MAX_TENSORS = 100_000
"""Tensors listed per description in JSON; the counts are always of all."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a tree holds.

    Args:
        descriptions: leading description first: directories before files, then in order of importance.
        unknown: entries that no description covers, sorted.
        findings: about the tree as a whole (a format that failed, a limit reached).
        sizes: bytes per entry.
    """

    descriptions: tuple[Description, ...]
    unknown: tuple[str, ...]
    findings: tuple[Finding, ...]
    sizes: Mapping[str, int]

    @property
    def leading(self) -> Description | None:
        """The description that names the whole, or None when nothing was recognised."""
        return self.descriptions[0] if self.descriptions else None

    @property
    def weights(self) -> tuple[Description, ...]:
        """The descriptions that hold the model's weights.

        One model exported several ways is counted once: the first format that has parameters, all descriptions of it.
        """
        first = next((found for found in self.descriptions if found.parameters), None)
        if first is None:
            return ()
        return tuple(found for found in self.descriptions if found.format == first.format and found.parameters)

    @property
    def parameters(self) -> int | None:
        """Trained numbers of the whole."""
        counts = [found.parameters for found in self.weights]
        return sum(count for count in counts if count) if counts else None

    @property
    def dtypes(self) -> dict[str, int]:
        """Elements per dtype over the weights, most frequent first."""
        total: Counter[str] = Counter()
        for found in self.weights:
            total.update(found.dtypes)
        return dict(total.most_common())

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Of the tree and of every description."""
        return (*self.findings, *(finding for found in self.descriptions for finding in found.findings))

    def first(self, attribute: str) -> Any:
        """The first non-empty value of an attribute over all descriptions, leading first."""
        values = (getattr(found, attribute) for found in self.descriptions)
        return next((value for value in values if value), None)

    def _speaking(self) -> tuple[Description, ...]:
        """The leading description and those of the weights: what loading the whole takes."""
        return (*((self.leading,) if self.leading else ()), *self.weights)

    def summary(self) -> dict[str, Json]:
        """The whole in a few fields; absent fields are left out."""
        leading = self.leading
        made_with = next((found for found in self.descriptions if found.framework), None)
        body: dict[str, Json] = {
            "format": leading.format if leading else "unknown",
            "formats": list(dict.fromkeys(found.format for found in self.descriptions)),
            "framework": made_with.framework if made_with else None,
            "framework_version": made_with.framework_version if made_with else None,
            "architecture": self.first("architecture"),
            "task": self.first("task"),
            "parameters": self.parameters,
            "dtypes": dict(self.dtypes),
            "tensors": sum(len(found.tensors) for found in self.weights) or None,
            "licenses": list(self.first("licenses") or ()),
            "base_models": list(self.first("base_models") or ()),
            "requirements": sorted({item for found in self._speaking() for item in found.requirements}),
            "files": len(self.sizes),
            "size": sum(self.sizes.values()),
        }
        return {key: value for key, value in body.items() if value not in (None, [], {})}

    def to_json(self) -> dict[str, Json]:
        """The inspection as the JSON object of ``docs/spec/description.md``."""
        return {
            "schema": SCHEMA,
            "summary": self.summary(),
            "models": [description_json(found) for found in self.descriptions],
            "unknown": list(self.unknown),
            "findings": [finding.to_json() for finding in self.findings],
        }


def description_json(found: Description) -> dict[str, Json]:
    """One description as a JSON object; absent fields are left out."""
    body: dict[str, Json] = {
        "format": found.format,
        "format_version": found.format_version,
        "paths": list(found.paths),
        "framework": found.framework,
        "framework_version": found.framework_version,
        "architecture": found.architecture,
        "task": found.task,
        "parameters": found.parameters,
        "dtypes": dict(found.dtypes),
        "inputs": [_port(port) for port in found.inputs],
        "outputs": [_port(port) for port in found.outputs],
        "tokenizer": _tokenizer(found.tokenizer) if found.tokenizer else None,
        "preprocessing": dict(found.preprocessing),
        "hyperparameters": dict(found.hyperparameters),
        "metrics": dict(found.metrics),
        "components": [_component(part) for part in found.components],
        "requirements": list(found.requirements),
        "base_models": list(found.base_models),
        "languages": list(found.languages),
        "licenses": list(found.licenses),
        "run": run_json(found.run) if found.run else None,
        "metadata": dict(found.metadata),
        "findings": [finding.to_json() for finding in found.findings],
        "tensor_count": len(found.tensors),
        "tensors": [_tensor(tensor) for tensor in found.tensors[:MAX_TENSORS]],
    }
    kept = ("format", "paths", "tensor_count")
    return {key: value for key, value in body.items() if key in kept or value not in (None, [], {})}


def _port(port: Port) -> dict[str, Json]:
    body: dict[str, Json] = {"name": port.name, "dtype": port.dtype}
    if port.shape is not None:
        body["shape"] = list(port.shape)
    return body


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Json]:
    body: dict[str, Json] = {"kind": tokenizer.kind}
    if tokenizer.vocabulary_size is not None:
        body["vocabulary_size"] = tokenizer.vocabulary_size
    if tokenizer.special_tokens:
        body["special_tokens"] = dict(tokenizer.special_tokens)
    if tokenizer.chat_template is not None:
        body["chat_template"] = tokenizer.chat_template
    return body


def _component(part: Component) -> dict[str, Json]:
    body: dict[str, Json] = {"name": part.name, "kind": part.kind}
    if part.hyperparameters:
        body["hyperparameters"] = dict(part.hyperparameters)
    if part.fitted:
        body["fitted"] = dict(part.fitted)
    if part.children:
        body["children"] = [_component(child) for child in part.children]
    return body


def run_json(run: RunLink) -> dict[str, Json]:
    """The link to a training run as a JSON object; absent fields are left out."""
    body: dict[str, Json] = {"system": run.system}
    if run.run_id:
        body["run_id"] = run.run_id
    if run.uri:
        body["uri"] = run.uri
    if run.extra:
        body["extra"] = dict(run.extra)
    return body


def _tensor(tensor: TensorSpec) -> dict[str, Json]:
    body: dict[str, Json] = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    if tensor.extent is not None:
        body["extent"] = {
            "path": tensor.extent.path,
            "offset": tensor.extent.offset,
            "length": tensor.extent.length,
        }
    if tensor.big_endian:
        body["big_endian"] = True
    if tensor.strides is not None:
        body["strides"] = list(tensor.strides)
    return body
