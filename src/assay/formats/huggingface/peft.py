"""Adapters written by peft: which model they change, where, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.huggingface.card import Card, read_card, read_trainer
from assay.formats.huggingface.code import report_code
from assay.formats.huggingface.folder import Folder
from assay.formats.huggingface.roots import find_roots, root_of, side_files
from assay.formats.huggingface.tokenizer import TokenizerFiles, read_tokenizer
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.trees import Tree

_MARKER = "adapter_config.json"
_TASKS = {
    "SEQ_CLS": "text-classification",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "CAUSAL_LM": "text-generation",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "feature-extraction",
}
_KNOWN_LIBRARIES = {"transformers", "diffusers", "sentence_transformers", "peft", "timm", "torch"}
_ELSEWHERE = {"base_model_name_or_path", "peft_type", "task_type", "auto_mapping", "peft_version"}


class PeftFormat:
    """Describes a folder with an ``adapter_config.json`` of peft."""

    name = "peft"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per adapter folder; beside a whole model, the adapter's own configuration only."""
        roots = find_roots(tree)
        groups = []
        for root in roots.adapters:
            marker = Folder(tree, root).path(_MARKER)
            groups.append((marker,) if root in roots.models else side_files(tree, [root], marker))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Kind, settings and base model of the adapter.

        Raises:
            BadFormat: its configuration cannot be read.
        """
        with guarded("a peft adapter", paths[0]):
            folder = Folder(tree, root_of(paths))
            config = folder.object(_MARKER)
            kind = config.get("peft_type")
            if not isinstance(kind, str):
                raise BadFormat(f"{paths[0]}: not a configuration of peft", path=paths[0])
            report_code(folder, _MARKER, config)
            _report_library(folder, config.get("auto_mapping"))
            if config.get("megatron_config") and config.get("megatron_core") not in {None, "megatron.core"}:
                _report_import(folder, str(config.get("megatron_core")))
            # Beside a whole model, card and tokenizer are about that model.
            alone = "config.json" not in folder
            card = read_card(folder) if alone else Card()
            tokens = read_tokenizer(folder) if alone else TokenizerFiles()
            metrics, run = read_trainer(folder) if alone else ({}, None)
            version = config.get("peft_version")
            metadata: dict[str, Json] = {"peft_type": kind[:60], **card.metadata}
            if tokens.metadata:
                metadata["tokenizer"] = tokens.metadata
            if folder.weights():
                metadata["weights"] = list(folder.weights())
            if isinstance(version, str):
                metadata["recorded_versions"] = {"peft": version[:60]}
            task = config.get("task_type")
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                framework="peft",
                framework_version=version[:60] if isinstance(version, str) else None,
                architecture=_architecture(kind, config),
                task=_TASKS.get(task) if isinstance(task, str) else card.pipeline_tag,
                tokenizer=tokens.tokenizer,
                hyperparameters={
                    key[:200]: plain(value)
                    for key, value in config.items()
                    if key not in _ELSEWHERE and value is not None
                },
                metrics={**card.metrics, **metrics},
                requirements=("peft", *tokens.requirements),
                base_models=_base_models(config, card.base_models),
                languages=card.languages,
                licenses=card.licenses,
                run=run,
                metadata=metadata,
                findings=tuple(folder.findings),
            )


def _architecture(kind: str, config: Mapping[str, Json]) -> str:
    mapping = config.get("auto_mapping")
    base = mapping.get("base_model_class") if isinstance(mapping, Mapping) else None
    return f"{kind[:60]} of {base[:100]}" if isinstance(base, str) else kind[:60]


def _base_models(config: Mapping[str, Json], card: Sequence[str]) -> tuple[str, ...]:
    stated = config.get("base_model_name_or_path")
    named = [stated[:400]] if isinstance(stated, str) and stated else []
    return tuple(dict.fromkeys([*named, *card]))


def _report_library(folder: Folder, mapping: Json) -> None:
    """Without a task, peft imports the library and class that the configuration names."""
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else None
    if isinstance(library, str) and library.split(".", 1)[0] not in _KNOWN_LIBRARIES:
        _report_import(folder, library)


def _report_import(folder: Folder, module: str) -> None:
    message = f"loading the adapter imports {module!r:.120}"
    folder.report("foreign-class", Severity.EXECUTE, message, _MARKER, module)
