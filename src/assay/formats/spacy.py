"""spaCy pipeline directories.

    meta.json                 language, name, versions, components, labels, vectors, evaluation results
    config.cfg                settings of every component and of training: INI sections with JSON values (since 3.0)
    tokenizer, vocab/, ner/ ...    msgpack, JSON and text of the components; recognised, not looked into

The group is the files of the folder that components write, without those that are formats of their own (NumPy vectors,
zip archives, pickles ...). Source: spaCy documentation, "Saving and Loading" and "Training Config".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from posixpath import dirname
from typing import Any

from assay.containers.documents import parse_json, plain, read_json
from assay.containers.foreign import is_foreign
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.spacy_parts import holds_pickle, is_own_factory, is_own_function, is_part
from assay.spec.description import Component, Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

META, CONFIG = "meta.json", "config.cfg"
MAX_META = 16 << 20
MAX_CONFIG = 1 << 20
MAX_LABELS = 200
"""Labels of one component that are listed."""

_SECTION = re.compile(r"\[([^\[\]\n]{1,300})\]\s*")
_SETTING = re.compile(r"([^\s=:\[][^=:\n]{0,200}?)\s*[=:]\s?(.*)")
_FACTORY = re.compile(r'^\s*factory\s*[=:]\s*"([^"\n]{1,200})"', re.MULTILINE)
_FUNCTION = re.compile(r'"?@(\w{1,40})"?\s*[:=]\s*"([^"]{1,200})"')


class SpacyFormat:
    """Describes spaCy pipelines by their ``meta.json`` and ``config.cfg``."""

    name = "spacy"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per pipeline: ``meta.json``, ``config.cfg``, then the files of its components."""
        markers = [path for path in tree.named(META) if _is_pipeline(tree, path)]
        folders = {dirname(path) for path in markers}
        groups = []
        for marker in markers:
            folder = dirname(marker)
            config = Tree.sibling(marker, CONFIG)
            inner = {other for other in folders if other != folder and (not folder or other.startswith(f"{folder}/"))}
            parts = [
                path
                for path in tree.under(folder)
                if path not in (marker, config)
                and not any(path.startswith(f"{other}/") for other in inner)
                and is_part(path)
                and not is_foreign(tree.head(path))
            ]
            groups.append((marker, *((config,) if config in tree else ()), *parts))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Language, components with their settings and labels, vectors and evaluation of one pipeline.

        Raises:
            BadFormat: ``meta.json`` is not a JSON object.
        """
        marker = paths[0]
        with guarded("a spaCy pipeline", marker):
            meta = read_json(tree.open(marker), MAX_META).value
            if not isinstance(meta, Mapping):
                raise BadFormat(f"{marker}: expected a JSON object, found another value", path=marker)
            config, findings = _config(tree, Tree.sibling(marker, CONFIG))
            for path in paths[1:]:
                if holds_pickle(tree, path):
                    message = "the file of a component holds a pickle, which was not read"
                    findings.append(Finding("spacy-nested-pickle", Severity.INCOMPLETE, message, path))
            return _description(paths, meta, config, findings)


Sections = Mapping[str, Mapping[str, Json]]


def _is_pipeline(tree: Tree, path: str) -> bool:
    head = tree.head(path)
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    config = Tree.sibling(path, CONFIG)
    return b'"spacy_version"' in head or (config in tree and b"[nlp]" in tree.head(config) and b'"lang"' in head)


def _config(tree: Tree, path: str) -> tuple[dict[str, dict[str, Json]], list[Finding]]:
    """Sections of ``config.cfg``, and what is odd in them."""
    if path not in tree:
        return {}, []
    findings = []
    if tree.size(path) > MAX_CONFIG:
        message = f"{tree.size(path):,} bytes, {MAX_CONFIG:,} were read"
        findings.append(Finding("spacy-config", Severity.INCOMPLETE, message, path))
    text = tree.open(path).read(0, MAX_CONFIG).decode("utf-8-sig", "replace")
    needed = {(kind, name) for kind, name in _FUNCTION.findall(text) if not is_own_function(name)}
    for kind, name in sorted(needed)[:50]:
        message = f"loading needs the function {name!r} from the registry {kind!r}, which spaCy does not bring"
        findings.append(Finding("spacy-foreign-function", Severity.INCOMPLETE, message, path, evidence=name))
    for name in sorted({name for name in _FACTORY.findall(text) if not is_own_factory(name)})[:50]:
        if name.startswith("llm"):
            message, does = f"the component {name!r} asks a language model elsewhere", "reach the network"
            findings.append(Finding("spacy-llm", Severity.NETWORK, message, path, evidence=name, effect=does))
        else:
            message = f"loading needs the component {name!r}, which spaCy does not bring"
            findings.append(Finding("spacy-foreign-component", Severity.INCOMPLETE, message, path, evidence=name))
    sections: dict[str, dict[str, Json]] = {}
    current: dict[str, Json] = {}
    for line in text.splitlines():
        if section := _SECTION.fullmatch(line):
            current = sections.setdefault(section[1], {})
        elif setting := _SETTING.fullmatch(line):
            current[setting[1]] = _value(setting[2].strip(), path)
    return sections, findings


def _value(text: str, path: str) -> Json:
    try:
        return parse_json(text.encode("utf-8", "replace"), path).value
    except BadFormat:
        return text  # a reference to another setting, ``${paths.train}``


def _description(
    paths: tuple[str, ...], meta: Mapping[str, Any], config: Sections, findings: list[Finding]
) -> Description:
    lang, spec = meta.get("lang"), meta.get("spacy_version")
    extra = meta.get("requirements")
    needs = [f"spacy{spec}" if isinstance(spec, str) and spec[:1] in "<>=!~" else "spacy"]
    needs += [item[:500] for item in extra[:200] if isinstance(item, str)] if isinstance(extra, list) else []
    license_name = meta.get("license")
    return Description(
        format="spacy",
        paths=tuple(sorted(paths)),
        format_version=_text(meta.get("version")),
        framework="spacy",
        framework_version=_text(spec),
        architecture="_".join(part for part in (_text(lang), _text(meta.get("name"))) if part) or None,
        task=_task(_names(meta.get("pipeline"))),
        inputs=(Port("text", "string", (None,)),),
        hyperparameters=_training(config),
        metrics=_metrics(meta.get("performance")),
        components=_components(meta, config),
        requirements=tuple(dict.fromkeys(needs)),
        languages=(lang,) if isinstance(lang, str) and lang else (),
        licenses=(license_name,) if isinstance(license_name, str) and license_name else (),
        metadata=_metadata(meta),
        findings=tuple(findings),
    )


def _task(pipeline: list[str]) -> str | None:
    for name, task in (("textcat", "text-classification"), ("ner", "token-classification")):
        if any(part.startswith(name) for part in pipeline):
            return task
    return "linguistic-annotation" if pipeline else None


def _training(config: Sections) -> dict[str, Json]:
    found = {}
    for name, section in config.items():
        if name == "training" or name.startswith(("training.optimizer", "training.batcher")):
            found.update({f"{name}.{key}": plain(value) for key, value in section.items() if value is not None})
    return found


def _metrics(performance: Any) -> dict[str, float]:
    return {
        str(key)[:200]: float(value)
        for key, value in (performance.items() if isinstance(performance, Mapping) else ())
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _components(meta: Mapping[str, Any], config: Sections) -> tuple[Component, ...]:
    names = _names(meta.get("components")) or _names(meta.get("pipeline"))
    labels = meta.get("labels")
    found = []
    for name in dict.fromkeys(names):
        own = config.get(f"components.{name}", {})
        model = config.get(f"components.{name}.model", {})
        settings = {
            key: plain(value) for key, value in own.items() if key not in ("factory", "source") and value is not None
        }
        settings |= {f"model.{key.lstrip('@')}": plain(value) for key, value in model.items() if value is not None}
        listed = _names(labels.get(name)) if isinstance(labels, Mapping) else []
        text = ", ".join(listed[:MAX_LABELS]) + (", …" if len(listed) > MAX_LABELS else "")
        found.append(
            Component(
                name=name,
                kind=_text(own.get("factory")) or (f"source {own['source']}"[:200] if "source" in own else name),
                hyperparameters={key: value for key, value in settings.items() if value is not None},
                fitted={"labels": f"{len(listed)}: {text}"} if listed else {},
            )
        )
    return tuple(found)


def _metadata(meta: Mapping[str, Any]) -> dict[str, Json]:
    metadata = {key: plain(meta[key]) for key in ("name", "description", "author", "url", "sources") if meta.get(key)}
    metadata |= {key: plain(meta[key]) for key in ("pipeline", "disabled", "spacy_git_version") if meta.get(key)}
    vectors = meta.get("vectors")
    if isinstance(vectors, Mapping):
        metadata["vectors"] = plain(vectors)
    return metadata


def _names(value: Any) -> list[str]:
    return [str(item)[:200] for item in value[:10_000]] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
