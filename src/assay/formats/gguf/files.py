"""GGUF: the model files of llama.cpp and its relatives, whole or split into parts.

The header is read in ``header``; this module finds the parts that belong together and says what the well-known
keys mean: identity (``general.…``), architecture settings (``llama.…``), tokenizer (``tokenizer.…``), parts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from assay.audit.jinja import judge_templates
from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.gguf.header import Array, Header, Value, read_header, version_of
from assay.formats.gguf.types import FILE_TYPES, SPECIAL_TOKENS, TOKENIZERS
from assay.spec.description import Description, Tokenizer
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_BASE_MODELS = 64
MAX_PARTS = 10_000

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_TOKENS = "tokenizer.ggml.tokens"
_TEMPLATE = "tokenizer.chat_template"
_TASK_TAG = re.compile(
    r"(?!.*-inference$)(text|image|audio|automatic|feature|sentence|token|question|fill)-[a-z-]{1,60}"
)
_TOKEN_ID = re.compile(r"tokenizer\.ggml\.(?P<role>\w+)_token_id")


class GgufFormat:
    """Describes ``.gguf`` files of versions 1 to 3 and either byte order."""

    name = "gguf"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per model: a single file, or the parts of a split one in order."""
        parts: dict[tuple[str, str], list[str]] = defaultdict(list)
        groups: list[tuple[str, ...]] = []
        for path in tree:
            if version_of(tree.head(path)) is None:
                continue
            match = _PART.fullmatch(path)
            if match:
                parts[match["stem"], match["count"]].append(path)
            else:
                groups.append((path,))
        return [*groups, *(tuple(sorted(paths)) for paths in parts.values())]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Everything the pairs say and every tensor; later parts add only tensors.

        Raises:
            BadFormat: the first part's header cannot be read.
        """
        with guarded("GGUF", paths[0]):
            header = read_header(tree.open(paths[0]))
            tensors = {spec.name: spec for spec in header.tensors}
            findings = list(header.findings)
            findings += _read_parts(tree, paths[1:], tensors)
            findings += _check_parts(header, paths, len(tensors))
            findings += _judge_templates(header, paths[0])
            return _describe(header, paths, tuple(tensors.values()), findings)


def _read_parts(tree: Tree, paths: Sequence[str], tensors: dict[str, TensorSpec]) -> list[Finding]:
    """Add the tensors of the parts after the first."""
    findings: list[Finding] = []
    for path in paths[:MAX_PARTS]:
        try:
            part = read_header(tree.open(path))
        except BadFormat as error:
            findings.append(Finding("gguf-bad-part", Severity.INCOMPLETE, error.message, path))
            continue
        findings += part.findings
        twice = [spec.name for spec in part.tensors if spec.name in tensors]
        if twice:
            message = f"{len(twice)} tensors are in an earlier part too"
            evidence = ", ".join(twice[:5])[:200]
            findings.append(Finding("gguf-duplicate-tensor", Severity.MISLEAD, message, path, None, evidence))
        for spec in part.tensors:
            tensors.setdefault(spec.name, spec)
    return findings


def _check_parts(header: Header, paths: Sequence[str], tensor_count: int) -> list[Finding]:
    """Hold the number of parts and tensors against what the first part states."""
    stated = header.values.get("split.count", 0)
    match = _PART.fullmatch(paths[0])
    count = int(match["count"]) if match else 1
    findings: list[Finding] = []
    if match and count != stated:
        message = f"the name says {count} parts, the file {stated!r:.40}"
        findings.append(Finding("gguf-split-mismatch", Severity.MISLEAD, message, paths[0]))
    expected = stated if isinstance(stated, int) and stated > 0 else count
    if expected > len(paths):
        message = f"{len(paths)} of {expected} parts are here"
        findings.append(Finding("gguf-missing-part", Severity.INCOMPLETE, message, paths[0]))
    total = header.values.get("split.tensors.count")
    if isinstance(total, int) and expected <= len(paths) and total != tensor_count:
        message = f"{total:,} tensors stated for all parts, {tensor_count:,} found"
        findings.append(Finding("gguf-split-mismatch", Severity.MISLEAD, message, paths[0]))
    return findings


def _describe(
    header: Header, paths: Sequence[str], tensors: tuple[TensorSpec, ...], findings: Sequence[Finding]
) -> Description:
    values = header.values
    architecture = _text(values, "general.architecture")
    tokenizer = _tokenizer(header)
    metadata: dict[str, Json] = {}
    hyperparameters: dict[str, Json] = {}
    for key, value in values.items():
        if key == _TEMPLATE:
            continue  # verbatim in the tokenizer
        prefix = f"{architecture}."
        if architecture and key.startswith(prefix):
            hyperparameters[key.removeprefix(prefix)[:200]] = _shown(value)
        else:
            metadata[key[:200]] = _shown(value)
    file_type = values.get("general.file_type")
    if isinstance(file_type, int):
        metadata["quantization"] = FILE_TYPES.get(file_type, f"file type {file_type}")
    if header.big_endian:
        metadata["byte_order"] = "big"
    templates = _named_templates(values)
    if templates:
        metadata["chat_templates"] = templates
    return Description(
        format="gguf",
        paths=tuple(sorted(paths)),
        format_version=str(header.version),
        framework="llama.cpp",
        architecture=architecture,
        task=_task(values, architecture, tokenizer),
        tensors=tensors,
        tokenizer=tokenizer,
        hyperparameters=hyperparameters,
        requirements=("llama-cpp-python",),
        base_models=_base_models(values),
        languages=_texts(values.get("general.languages")),
        licenses=tuple(filter(None, (_text(values, "general.license"),))),
        metadata=metadata,
        findings=tuple(findings),
    )


def _tokenizer(header: Header) -> Tokenizer | None:
    values = header.values
    model = _text(values, "tokenizer.ggml.model")
    tokens = values.get(_TOKENS)
    if model is None and not isinstance(tokens, Array):
        return None
    ids: dict[str, int] = {}
    for key, value in values.items():
        match = _TOKEN_ID.fullmatch(key)
        if match and type(value) is int:
            role = match["role"]
            ids[SPECIAL_TOKENS.get(role, f"{role}_token")] = value
    special: dict[str, str] = {}
    if isinstance(tokens, Array):
        found = header.texts(tokens, ids.values())
        special = {role: found[index] for role, index in ids.items() if index in found}
    return Tokenizer(
        kind=TOKENIZERS.get(model or "", model or "unknown"),
        vocabulary_size=tokens.count if isinstance(tokens, Array) else None,
        special_tokens=special,
        chat_template=_text(values, _TEMPLATE),
    )


def _named_templates(values: Mapping[str, Value]) -> dict[str, Json]:
    """Templates beside the default one (``tokenizer.chat_template.tool_use``), verbatim."""
    prefix = f"{_TEMPLATE}."
    return {
        key.removeprefix(prefix): value
        for key, value in values.items()
        if key.startswith(prefix) and isinstance(value, str)
    }


def _judge_templates(header: Header, path: str) -> list[Finding]:
    """What the chat templates can do: the default one, and every other text whose key ends or begins like one."""
    stated = {key: value for key, value in header.values.items() if "chat_template" in key and isinstance(value, str)}
    return judge_templates(
        (("chat template" if key == _TEMPLATE else f"chat template {key!r:.60}", text) for key, text in stated.items()),
        path,
    )


def _base_models(values: Mapping[str, Value]) -> tuple[str, ...]:
    count = values.get("general.base_model.count", 0)
    named = []
    for index in range(min(count, MAX_BASE_MODELS) if isinstance(count, int) else 0):
        prefix = f"general.base_model.{index}"
        repository = _text(values, f"{prefix}.repo_url")
        name = _text(values, f"{prefix}.name")
        organization = _text(values, f"{prefix}.organization")
        if repository:
            named.append(repository)
        elif name:
            named.append(f"{organization}/{name}" if organization else name)
    return tuple(named)


def _task(values: Mapping[str, Value], architecture: str | None, tokenizer: Tokenizer | None) -> str | None:
    """From the tags (which carry the hub's task among others), else from what the file is made for."""
    for tag in _texts(values.get("general.tags")):
        if _TASK_TAG.fullmatch(tag):
            return tag
    if architecture and f"{architecture}.pooling_type" in values:
        return "feature-extraction"
    if tokenizer and tokenizer.chat_template:
        return "text-generation"
    return None


def _text(values: Mapping[str, Value], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _texts(value: Value | None) -> tuple[str, ...]:
    if isinstance(value, Array):
        return tuple(item for item in value.first if isinstance(item, str))
    return (value,) if isinstance(value, str) else ()


def _shown(value: Value) -> Json:
    """A value as JSON: short arrays as lists, long ones as their kind, length and first items."""
    if not isinstance(value, Array):
        return plain(value)
    items: list[Json] = [_shown(item) for item in value.first]
    if len(items) == value.count:
        return items
    return {"items": value.kind, "count": value.count, "first": items}
