"""Folders written by ``save_pretrained`` of transformers: what configuration, tokenizer and card say together."""

from __future__ import annotations

from collections.abc import Sequence

from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.huggingface.card import read_card, read_trainer
from assay.formats.huggingface.code import report_code
from assay.formats.huggingface.config import is_config, read_config
from assay.formats.huggingface.folder import Folder
from assay.formats.huggingface.roots import find_roots, root_of, side_files
from assay.formats.huggingface.tokenizer import read_tokenizer
from assay.spec.description import Description
from assay.spec.json import Json
from assay.trees import Tree

_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


class TransformersFormat:
    """Describes a folder with a ``config.json`` of transformers; its weights are described by their own formats."""

    name = "transformers"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per folder: ``config.json``, then tokenizer, preprocessing, card and result files."""
        roots = find_roots(tree)
        groups = []
        for root in roots.models:
            files = side_files(tree, [root], Folder(tree, root).path("config.json"))
            groups.append(tuple(path for path in files if not path.endswith("adapter_config.json")))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Everything the side files of the folder say.

        Raises:
            BadFormat: the configuration cannot be read.
        """
        with guarded("a transformers folder", paths[0]):
            folder = Folder(tree, root_of(paths))
            if not is_config(folder.object("config.json")):
                raise BadFormat(f"{paths[0]}: not a configuration of transformers", path=paths[0])
            card = read_card(folder)
            config = read_config(folder, task=card.pipeline_tag)
            tokens = read_tokenizer(folder)
            metrics, run = read_trainer(folder)
            metadata: dict[str, Json] = {**config.metadata, **card.metadata}
            if tokens.metadata:
                metadata["tokenizer"] = tokens.metadata
            if folder.weights():
                metadata["weights"] = list(folder.weights())
            if config.version:
                metadata["recorded_versions"] = {"transformers": config.version}
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                framework="transformers",
                framework_version=config.version,
                architecture=config.architecture,
                task=config.task,
                inputs=config.inputs,
                outputs=config.outputs,
                tokenizer=tokens.tokenizer,
                preprocessing=read_preprocessing(folder),
                hyperparameters=config.hyperparameters,
                metrics={**card.metrics, **metrics},
                requirements=("transformers", *tokens.requirements),
                base_models=card.base_models,
                languages=card.languages,
                licenses=card.licenses,
                run=run,
                metadata=metadata,
                findings=tuple(folder.findings),
            )


def read_preprocessing(folder: Folder) -> dict[str, Json]:
    """Settings of image, audio and video preprocessing and of the processor that joins them."""
    settings: dict[str, Json] = {}
    for name in _PREPROCESSORS:
        value = folder.object(name)
        report_code(folder, name, value)
        if value:
            settings[name.removesuffix("_config.json")] = plain(value)
    return settings
