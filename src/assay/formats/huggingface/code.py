"""Code that configuration files ask for: classes outside the libraries, named by the files themselves.

Loading such a model runs that code (after ``trust_remote_code=True`` or its equivalents), so each request is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from assay.audit.code_names import weigh_name
from assay.formats.huggingface.folder import Folder
from assay.spec.finding import Severity
from assay.spec.json import Json

_MAX_DEPTH = 8
_MAX_FINDINGS = 20
_SAFE_PREFIXES = ("torch.nn.", "sentence_transformers.")


def report_code(folder: Folder, name: str, value: Json) -> None:
    """Report every ``auto_map`` and custom pipeline in the document *value* of the file *name*."""
    for count, (key, target) in enumerate(_requests(value, 0)):
        if count >= _MAX_FINDINGS:
            break
        repository, dashes, module = target.rpartition("--")
        where = f"repository {repository!r:.100}" if dashes else "the artifact"
        message = f"{name} asks for code of {where}: {key} is {module!r:.100}"
        if dashes:
            effect = "fetch code from another repository and run it"
        else:
            effect = "run Python source from the artifact"
            message += f" ({folder.source_size():,} bytes of Python source, not known to be malicious)"
        folder.report("auto-map", Severity.EXECUTE, message, name, target, effect)


def report_class(folder: Folder, name: str, what: str, target: str) -> None:
    """Report a class named by a file unless it belongs to the libraries that read it."""
    if not target.startswith(_SAFE_PREFIXES) or weigh_name(target) is not None:
        message = f"{name} names {what} {target!r:.120} outside torch.nn and sentence_transformers"
        folder.report("foreign-class", Severity.EXECUTE, message, name, target)


def _requests(value: Json, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MAX_DEPTH or not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if key == "auto_map" and isinstance(item, Mapping):
            for role, target in item.items():
                yield from ((role, text) for text in _texts(target))
        elif key == "custom_pipelines" and isinstance(item, Mapping):
            for role, pipeline in item.items():
                implementation = pipeline.get("impl") if isinstance(pipeline, Mapping) else None
                yield from ((f"pipeline {role}", text) for text in _texts(implementation))
        else:
            yield from _requests(item, depth + 1)


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Sequence):
        return [item for item in value if isinstance(item, str)]
    return []
