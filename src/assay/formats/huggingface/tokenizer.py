"""The tokenizer files of a Hugging Face folder, whichever generation they are of.

``tokenizer.json`` (tokenizers) says most; ``vocab.txt``, ``vocab.json`` with ``merges.txt`` and sentencepiece models
are what came before it; ``tokenizer_config.json`` and ``special_tokens_map.json`` name the special tokens; the chat
template lies in one of three places, of which ``chat_template.jinja`` wins.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.audit.jinja import judge_templates
from assay.containers.documents import plain
from assay.errors import AssayError
from assay.formats.huggingface.code import report_code
from assay.formats.huggingface.folder import MAX_TEXT_FILE, Folder
from assay.formats.huggingface.sentencepiece import read_sentencepiece
from assay.spec.description import Tokenizer
from assay.spec.finding import Severity
from assay.spec.json import Json

MAX_TOKENIZER = 128 << 20
"""Bytes of tokenizer.json that are read; the largest known take about 35 million."""
MAX_TEMPLATE = 1 << 20
MAX_TEMPLATES = 64
MAX_TOKENS = 4_000_000
"""Lines of a vocab.txt; the largest vocabularies have a million."""
_UNLIMITED = 1e18
"""The library writes 10**30 where no limit is known."""

_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model")
_SHOWN_SETTINGS = (
    "tokenizer_class",
    "model_max_length",
    "padding_side",
    "truncation_side",
    "do_lower_case",
    "add_bos_token",
    "add_eos_token",
    "clean_up_tokenization_spaces",
    "processor_class",
)


@dataclass(slots=True)
class TokenizerFiles:
    """What the files say: the tokenizer, further settings, and the distributions reading it takes."""

    tokenizer: Tokenizer | None = None
    metadata: dict[str, Json] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()


@dataclass(slots=True)
class _Model:
    """Kind and vocabulary as one of the file generations has them."""

    kind: str
    size: int | None
    known: frozenset[str] | set[str] | Mapping[str, Json] = frozenset()
    metadata: dict[str, Json] = field(default_factory=dict)
    special: dict[str, str] = field(default_factory=dict)
    requirement: str = "tokenizers"


def read_tokenizer(folder: Folder) -> TokenizerFiles:
    """Everything the tokenizer files in *folder* say; nothing when there are none."""
    settings = folder.object("tokenizer_config.json")
    report_code(folder, "tokenizer_config.json", settings)
    model = _fast(folder) or _wordpiece(folder) or _bpe(folder) or _sentencepiece(folder)
    template, templates = _chat_template(folder, settings)
    files = TokenizerFiles()
    if model is None and not settings:
        return files
    special = dict(model.special) if model else {}
    roles, additional = _special_tokens(folder, settings)
    special.update(roles)
    kind = model.kind if model else str(settings.get("tokenizer_class", "unknown"))[:100]
    size = model.size if model else None
    if model and model.requirement != "tokenizer.json" and size is not None:
        size += len(_added_tokens(folder, settings) - set(model.known))
    files.tokenizer = Tokenizer(kind, size, special, template)
    if model:
        files.metadata.update(model.metadata)
        files.requirements = ("sentencepiece",) if model.requirement == "sentencepiece" else ("tokenizers",)
    files.metadata.update(
        {key: plain(settings[key], text=200) for key in _SHOWN_SETTINGS if settings.get(key) is not None}
    )
    longest = settings.get("model_max_length")
    if isinstance(longest, (int, float)) and longest > _UNLIMITED:
        files.metadata["model_max_length"] = "unlimited"
    if additional:
        files.metadata["additional_special_tokens"] = plain(additional)
    if templates:
        files.metadata["chat_templates"] = templates
    return files


def _fast(folder: Folder) -> _Model | None:
    """The tokenizer of ``tokenizer.json``: model, vocabulary with added tokens, and the steps around it."""
    document = folder.object("tokenizer.json", MAX_TOKENIZER)
    model = document.get("model")
    if not isinstance(model, Mapping):
        return None
    vocabulary = model.get("vocab")
    known: set[str] | Mapping[str, Json] = set()
    if isinstance(vocabulary, Mapping):
        known = vocabulary
    elif isinstance(vocabulary, Sequence):
        known = {str(entry[0]) for entry in vocabulary if isinstance(entry, list) and entry}
    added = {
        str(token["content"])
        for token in _list(document.get("added_tokens"))
        if isinstance(token, Mapping) and "content" in token
    }
    metadata: dict[str, Json] = {"added_tokens": len(added)}
    merges = _list(model.get("merges"))
    if merges:
        metadata["merges"] = len(merges)
    for step in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        kinds = _kinds(document.get(step), 0)
        if kinds:
            metadata[step] = list(kinds)
    for setting in ("truncation", "padding"):
        if document.get(setting):
            metadata[setting] = plain(document[setting])
    unknown = model.get("unk_token")
    special = {"unk_token": unknown} if isinstance(unknown, str) else {}
    kind = model.get("type")
    # Files older than tokenizers 0.9 do not name the kind; merges tell it.
    named = kind if isinstance(kind, str) else "bpe" if merges else "wordpiece"
    size = len(known) + sum(token not in known for token in added)
    return _Model(named.lower()[:40], size, known, metadata, special, "tokenizer.json")


def _kinds(step: Json, depth: int) -> list[str]:
    """The names of a processing step, a sequence of steps flattened."""
    if not isinstance(step, Mapping) or depth > 8:
        return []
    for inner in ("normalizers", "pretokenizers", "processors", "decoders"):
        if isinstance(step.get(inner), Sequence):
            return [kind for item in _list(step[inner])[:64] for kind in _kinds(item, depth + 1)]
    return [str(step["type"])[:40]] if "type" in step else []


def _wordpiece(folder: Folder) -> _Model | None:
    text = folder.text("vocab.txt")
    if text is None:
        return None
    if text.count("\n") > MAX_TOKENS:
        folder.report("bad-tokenizer", Severity.INCOMPLETE, f"more than {MAX_TOKENS:,} lines", "vocab.txt")
        return None
    tokens = {line.rstrip("\r") for line in text.split("\n")}
    tokens.discard("")
    return _Model("wordpiece", len(tokens), tokens)


def _bpe(folder: Folder) -> _Model | None:
    vocabulary = folder.object("vocab.json", MAX_TOKENIZER)
    if not vocabulary:
        return None
    merges = folder.text("merges.txt")
    if merges is None and "source.spm" in folder:  # translation models keep their pieces' ids beside two models
        return _Model("sentencepiece-unigram", len(vocabulary), vocabulary, requirement="sentencepiece")
    if merges is None:
        return _Model("wordlevel", len(vocabulary), vocabulary)
    count = sum(1 for line in io.StringIO(merges) if line.strip() and not line.startswith("#version"))
    return _Model("bpe", len(vocabulary), vocabulary, {"merges": count})


def _sentencepiece(folder: Folder) -> _Model | None:
    for name in _SENTENCEPIECE:
        if name not in folder or folder.tree.size(folder.path(name)) > MAX_TEXT_FILE:
            continue
        try:
            model = read_sentencepiece(folder.tree.open(folder.path(name)))
        except AssayError as error:
            folder.report("bad-tokenizer", Severity.INCOMPLETE, error.message, name)
            continue
        kind = f"sentencepiece-{model.kind}"
        return _Model(kind, len(model.pieces), set(model.pieces), model.settings, model.special, "sentencepiece")
    return None


def _added_tokens(folder: Folder, settings: Mapping[str, Json]) -> set[str]:
    """Tokens added beside a vocabulary of the older generations."""
    added = set(folder.object("added_tokens.json"))
    decoder = settings.get("added_tokens_decoder")
    for token in decoder.values() if isinstance(decoder, Mapping) else ():
        if isinstance(token, Mapping) and isinstance(token.get("content"), str):
            added.add(str(token["content"]))
    return added


def _special_tokens(folder: Folder, settings: Mapping[str, Json]) -> tuple[dict[str, str], list[str]]:
    """Role to token text from both files, the configuration winning; and the special tokens without a role."""
    roles: dict[str, str] = {}
    additional: list[str] = []
    for source in (folder.object("special_tokens_map.json"), settings):
        for key, value in source.items():
            text = _token_text(value)
            if key.endswith("_token") and text is not None:
                roles[key[:60]] = text
        listed = source.get("additional_special_tokens") or source.get("extra_special_tokens")
        if isinstance(listed, Mapping):
            roles.update({key[:60]: text for key, value in listed.items() if (text := _token_text(value)) is not None})
        texts = [text for item in _list(listed) if (text := _token_text(item)) is not None]
        additional = texts or additional
    return roles, additional


def _token_text(value: Json) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value[:1000] if isinstance(value, str) else None


def _chat_template(folder: Folder, settings: Mapping[str, Json]) -> tuple[str | None, dict[str, Json]]:
    """The default chat template verbatim, and the named ones; templates that contradict each other are a finding."""
    named: dict[str, Json] = {}
    found: list[str] = []
    jinja = folder.text("chat_template.jinja", MAX_TEMPLATE)
    if jinja is not None:
        found.append(jinja)
        folder.findings += judge_templates([("chat template", jinja)], folder.path("chat_template.jinja"))
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        value = (settings if name == "tokenizer_config.json" else folder.object(name)).get("chat_template")
        listed = _templates(value)
        folder.findings += judge_templates(((_called(what), text) for what, text in listed), folder.path(name))
        for what, text in listed:
            if what:
                named.setdefault(what[:100], text[:MAX_TEMPLATE])
            else:
                found.append(text[:MAX_TEMPLATE])
    extra = folder.sub("additional_chat_templates")
    for name in extra.names[:MAX_TEMPLATES]:
        if name.endswith(".jinja"):
            text = extra.text(name, MAX_TEMPLATE) or ""
            named[name.removesuffix(".jinja")] = text
            folder.findings += judge_templates([("chat template", text)], extra.path(name))
    if len(extra.names) > MAX_TEMPLATES:
        message = f"{len(extra.names):,} chat templates, {MAX_TEMPLATES} are looked at"
        folder.report("many-templates", Severity.INCOMPLETE, message, "additional_chat_templates")
    if len({template.strip() for template in found}) > 1:
        message = f"{len(found)} chat templates differ; {'chat_template.jinja' if jinja else 'chat_template.json'} wins"
        folder.report("two-chat-templates", Severity.MISLEAD, message)
    default = found[0] if found else named.get("default")
    return (default if isinstance(default, str) else None), named


def _templates(value: Json) -> list[tuple[str, str]]:
    """Templates by name, as a list or mapping states them; the default one has none."""
    if isinstance(value, str):
        return [("", value)]
    if isinstance(value, Mapping):
        return [(str(name), text) for name, text in value.items() if isinstance(text, str)]
    items = [item for item in _list(value) if isinstance(item, Mapping)]
    return [(str(item.get("name")), text) for item in items if isinstance(text := item.get("template"), str)]


def _called(name: str) -> str:
    return f"chat template {name!r:.60}" if name else "chat template"


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
