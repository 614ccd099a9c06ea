"""Folders written by sentence-transformers: a chain of modules over a transformers model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename, dirname

from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.containers.locations import escaping
from assay.errors import BadFormat
from assay.formats.huggingface.card import read_card, read_trainer
from assay.formats.huggingface.code import report_class, report_code
from assay.formats.huggingface.config import Config, read_config
from assay.formats.huggingface.folder import Folder
from assay.formats.huggingface.roots import find_roots, is_modules, module_folder, module_list, root_of, side_files
from assay.formats.huggingface.tokenizer import TokenizerFiles, read_tokenizer
from assay.spec.description import Component, Description, Port
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.trees import Tree

_MARKER = "modules.json"
_SETTINGS = "config_sentence_transformers.json"
_ROUTERS = ("config.json", "router_config.json")
"""Files in which a module may name modules of its own."""
_TRANSFORMER_SETTINGS = (
    # the names earlier releases gave to this file, by architecture
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


class SentenceTransformersFormat:
    """Describes a folder with a ``modules.json`` of sentence-transformers, its modules' folders included."""

    name = "sentence-transformers"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per model: ``modules.json``, then the side files of its folder and of its modules' folders."""
        return [
            side_files(tree, [root, *folders], Folder(tree, root).path(_MARKER))
            for root, folders in find_roots(tree).sentence.items()
        ]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """The chain of modules and everything the transformers model in it says.

        Raises:
            BadFormat: the list of modules cannot be read.
        """
        with guarded("a sentence-transformers folder", paths[0]):
            folder = Folder(tree, root_of(paths))
            modules = folder.value(_MARKER)
            if not is_modules(modules):
                raise BadFormat(f"{paths[0]}: not a list of sentence-transformers modules", path=paths[0])
            card = read_card(folder)
            settings = folder.object(_SETTINGS)
            task = card.pipeline_tag or "sentence-similarity"
            chain = _Chain(task)
            for module in module_list(modules):
                chain.add(folder, module)
            _report_inner(folder, {dirname(path) for path in paths})
            metrics, run = read_trainer(folder)
            versions = settings.get("__version__")
            recorded = plain(versions) if isinstance(versions, Mapping) else {}
            metadata: dict[str, Json] = {**chain.config.metadata, **card.metadata}
            if recorded:
                metadata["recorded_versions"] = recorded
            if chain.tokens.metadata:
                metadata["tokenizer"] = chain.tokens.metadata
            if folder.weights():
                metadata["weights"] = list(folder.weights())
            training_data = folder.value("data_config.json")
            if training_data is not None:
                metadata["training_data"] = plain(training_data, text=200, items=100, depth=3)
            stated = recorded.get("sentence_transformers") if isinstance(recorded, Mapping) else None
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                framework="sentence-transformers",
                framework_version=stated if isinstance(stated, str) else None,
                architecture=chain.config.architecture or _text(settings.get("model_type")),
                task=task,
                inputs=(Port("sentences", "string", ("batch",)),),
                outputs=(Port("sentence_embedding", "float32", ("batch", chain.width)),),
                tokenizer=chain.tokens.tokenizer,
                hyperparameters={**chain.config.hyperparameters, **chain.settings, **_shown(settings)},
                metrics={**card.metrics, **metrics},
                components=tuple(chain.components),
                requirements=("sentence-transformers", "transformers", *chain.tokens.requirements),
                base_models=card.base_models,
                languages=card.languages,
                licenses=card.licenses,
                run=run,
                metadata=metadata,
                findings=tuple(folder.findings),
            )


@dataclass(slots=True)
class _Chain:
    """The modules read so far; the first transformers model among them gives configuration and tokenizer."""

    task: str
    config: Config = field(default_factory=Config)
    tokens: TokenizerFiles = field(default_factory=TokenizerFiles)
    components: list[Component] = field(default_factory=list)
    settings: dict[str, Json] = field(default_factory=dict)
    width: int | None = None

    def add(self, folder: Folder, module: Mapping[str, Json]) -> None:
        """Read one module of the chain."""
        kind = str(module.get("type"))[:200]
        name = str(module.get("name", len(self.components)))[:100]
        report_class(folder, _MARKER, "module", kind)
        place = module_folder("", module)
        if place is None:
            message = f"module {name!r} lies outside the folder"
            folder.report("path-escape", Severity.READ, message, _MARKER, str(module.get("path")))
            self.components.append(Component(name, kind))
            return
        here = folder.sub(place) if place else folder
        settings: Mapping[str, Json] = {} if place == "" else here.object("config.json")
        if any(file in here for file in _TRANSFORMER_SETTINGS) or kind.endswith(".Transformer"):
            settings = self._transformer(here)
        else:
            report_code(here, "config.json", settings)
            activation = settings.get("activation_function")
            if isinstance(activation, str):
                report_class(here, "config.json", "activation", activation)
        # Each later module may change the width of the embedding.
        for key in ("out_features", "embedding_dimension", "word_embedding_dimension"):
            width = settings.get(key)
            if type(width) is int and not kind.endswith(".Normalize"):
                self.width = self._pooled(settings, width) if key != "out_features" else width
                break
        self.components.append(Component(name, kind, _shown(settings)))

    def _transformer(self, folder: Folder) -> Mapping[str, Json]:
        settings: dict[str, Json] = {}
        for file in _TRANSFORMER_SETTINGS:
            settings.update(folder.object(file))
        report_code(folder, "sentence_bert_config.json", settings)
        if self.config.architecture is None:
            self.config = read_config(folder, task=self.task)
            self.tokens = read_tokenizer(folder)
            hidden = self.config.hyperparameters.get("hidden_size")
            self.width = hidden if isinstance(hidden, int) else None
            # Releases since 5 keep the length in the tokenizer's settings only.
            longest = self.tokens.metadata.get("model_max_length")
            self.settings.update({"max_seq_length": longest} if isinstance(longest, int) else {})
            self.settings.update(_shown(settings))
        return settings

    @staticmethod
    def _pooled(settings: Mapping[str, Json], width: int) -> int:
        """Width after pooling: every mode that is on adds one vector."""
        modes = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
        listed = settings.get("pooling_mode")
        count = len(listed) if isinstance(listed, list) else len(modes)
        return width * max(1, count)


def _report_inner(folder: Folder, looked_at: Collection[str]) -> None:
    """Report what modules inside of modules are: they lie anywhere below, and no list of the folder names them.

    Args:
        folder: of the model.
        looked_at: folders whose activations were judged.
    """
    for path in folder.tree.under(folder.root):
        if basename(path) not in _ROUTERS:
            continue
        here, name = Folder(folder.tree, dirname(path)), basename(path)
        settings = here.object(name)
        types = settings.get("types")
        for place, kind in types.items() if isinstance(types, Mapping) else ():
            if isinstance(kind, str) and "." in kind:  # nothing else can be imported
                report_class(here, name, "module", kind[:200])
            if escaping(place):
                message = f"module {place[:100]!r} lies outside the folder"
                here.report("path-escape", Severity.READ, message, name, place)
        activation = settings.get("activation_function")
        # Transformers' own name for theirs has no dot.
        if isinstance(activation, str) and "." in activation and dirname(path) not in looked_at:
            report_class(here, name, "activation", activation)
        # What is wrong with the file itself was reported where the module was looked at, if it was.
        folder.findings += [found for found in here.findings if found not in folder.findings]


def _shown(settings: Mapping[str, Json]) -> dict[str, Json]:
    return {key[:200]: plain(value) for key, value in settings.items() if key != "__version__" and value is not None}


def _text(value: Json) -> str | None:
    return value[:200] if isinstance(value, str) else None
