"""Which folder of a tree belongs to which kind of Hugging Face repository, so that no file is claimed twice.

A pipeline of diffusers owns the folders of its components, a sentence-transformers model those of its modules; what is
left with a ``config.json`` of its own is a transformers model, and ``adapter_config.json`` makes an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import dirname, normpath

from assay.formats.huggingface.config import is_config
from assay.formats.huggingface.folder import Folder, folders_of
from assay.spec.json import Json
from assay.trees import Tree

MAX_MODULES = 1_000
_MAX_MARKER = 16 << 20


@dataclass(slots=True)
class Roots:
    """The folders that are one model each.

    Args:
        pipelines: of diffusers; folder to the folders it owns.
        components: single diffusers models outside a pipeline.
        sentence: of sentence-transformers; folder to the folders it owns.
        adapters: of peft.
        models: of transformers.
    """

    pipelines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    components: list[str] = field(default_factory=list)
    sentence: dict[str, tuple[str, ...]] = field(default_factory=dict)
    adapters: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


def find_roots(tree: Tree) -> Roots:
    """Sort every folder that has a marker file."""
    roots = Roots()
    owned: set[str] = set()
    for root in folders_of(tree, "model_index.json"):
        index = Folder(tree, root).object("model_index.json", _MAX_MARKER)
        if isinstance(index.get("_class_name"), (str, list)):  # a list names a class of the artifact's own
            folder = Folder(tree, root)
            mine = tuple(folder.path(name) for name in pipeline_components(index))
            roots.pipelines[root] = mine
            owned.update(mine)
    for root in folders_of(tree, "modules.json"):
        modules = Folder(tree, root).value("modules.json", _MAX_MARKER)
        if root not in owned and is_modules(modules):
            mine = tuple(sorted({path for module in module_list(modules) if (path := module_folder(root, module))}))
            roots.sentence[root] = mine
            owned.update((root, *mine))
    for root in folders_of(tree, "adapter_config.json"):
        adapter = Folder(tree, root).object("adapter_config.json", _MAX_MARKER)
        if root not in owned and isinstance(adapter.get("peft_type"), str):
            roots.adapters.append(root)
    for root in folders_of(tree, "config.json"):
        if root in owned:
            continue
        config = Folder(tree, root).object("config.json", _MAX_MARKER)
        if is_config(config):
            roots.models.append(root)
        elif isinstance(config.get("_class_name"), str) and isinstance(config.get("_diffusers_version"), str):
            roots.components.append(root)
    return roots


def pipeline_components(index: Mapping[str, Json]) -> list[str]:
    """Names of the parts a ``model_index.json`` lists: keys with a library and a class."""
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and "/" not in name and name not in {"", ".", ".."}
    ][:MAX_MODULES]


def is_modules(value: Json) -> bool:
    """Whether a ``modules.json`` is one of sentence-transformers."""
    modules = module_list(value)
    return bool(modules) and all(isinstance(module.get("type"), str) for module in modules)


def module_list(value: Json) -> list[Mapping[str, Json]]:
    """The modules of a ``modules.json`` in order."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [module for module in value[:MAX_MODULES] if isinstance(module, Mapping)]


def module_folder(root: str, module: Mapping[str, Json]) -> str | None:
    """The folder of a module below *root*; None when its path leaves it."""
    path = module.get("path", "")
    if not isinstance(path, str):
        return None
    clean = normpath(path) if path else ""
    if clean == ".":
        clean = ""
    if clean.startswith(("/", "..")) or "\\" in clean or "\0" in clean or ":" in clean:
        return None
    return f"{root}/{clean}".strip("/") if clean else root


def side_files(tree: Tree, folders: Sequence[str], marker: str) -> tuple[str, ...]:
    """The group of a model: its marker file first, then the side files of its folders."""
    files = {path for folder in folders for path in Folder(tree, folder).side_files()}
    for folder in folders:
        templates = Folder(tree, folder).sub("additional_chat_templates")
        files.update(templates.path(name) for name in templates.names if name.endswith(".jinja"))
    return (marker, *sorted(files - {marker}))


def root_of(paths: Sequence[str]) -> str:
    """The folder a group is about: that of its marker file."""
    return dirname(paths[0])
