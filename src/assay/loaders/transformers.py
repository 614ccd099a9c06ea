"""Hugging Face transformers: the model class that ``config.json`` names, with its head, from local files only.

``assay.load`` gives the model; ``load_part`` gives the tokenizer, processor or configuration of the same folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, InvalidInput, NotFound, Refused
from assay.loaders.devices import device_of
from assay.loaders.frameworks import imported, is_instance, need, reason, top_modules
from assay.loaders.hazards import settings
from assay.loaders.places import directory
from assay.loaders.reproducible import sort_safetensors_header
from assay.ports.loaders import Saved
from assay.spec.description import Description

_log = logging.getLogger(__name__)

PARTS = {
    "tokenizer": "AutoTokenizer",
    "processor": "AutoProcessor",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
    "config": "AutoConfig",
    "generation_config": "GenerationConfig",
}
"""Parts of a folder besides the model, and the class of transformers that reads each."""

_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json",
             "processor_config.json")  # fmt: skip
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_MAX_DEPTH = 12


class TransformersLoader:
    """Models of transformers' own classes; code that comes with a model is never run."""

    formats: ClassVar[Sequence[str]] = ("transformers",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``PreTrainedModel`` in evaluation mode, of the class in ``architectures`` when transformers has it.

        Raises:
            Refused: its class is code of the repository (code ``custom-code``), or settings point to code elsewhere.
            BadFormat: transformers cannot build it from these files.
            MissingDependency: transformers or torch is not installed.
        """
        need("torch", extra="transformers", what="load a transformers model")
        transformers = need("transformers", extra="transformers", what="load a transformers model")
        home = directory(folder, description, "config.json")
        check_settings(home)
        if (home / "adapter_config.json").is_file():
            raise Refused(
                "the folder holds an adapter, which transformers would join with a base model from elsewhere",
                code="needs-base-model",
                hint="load the base model, then peft.PeftModel.from_pretrained(base, folder)",
            )
        config = settings(home / "config.json")
        cls = _model_class(transformers, config)
        try:
            model, story = cls.from_pretrained(str(home), output_loading_info=True, **_LOCAL)
        except Exception as error:
            raise BadFormat(f"transformers cannot build the model ({reason(error)})") from error
        missing = sorted(map(str, story.get("missing_keys", ())))
        if missing:
            _log.warning("%s: %d weights are not in the files and start untrained: %s",
                         type(model).__name__, len(missing), ", ".join(missing[:5]))  # fmt: skip
        return model.eval()

    def load_on(
        self, folder: Path, description: Description, *, descriptions: Sequence[Description], device: object
    ) -> object:
        """As ``load``, with the model on a device.

        Raises:
            InvalidInput: torch cannot use the device (code ``no-device``).
            As ``load``.
        """
        target = device_of(need("torch", extra="transformers", what="load a transformers model"), device)
        model: Any = self.load(folder, description, descriptions)
        return model.to(target)

    def load_part(self, folder: Path, description: Description, part: str) -> object:
        """The tokenizer, processor or another part of the same folder.

        Raises:
            NotFound: there is no part of this name (code ``part-not-found``).
            Refused, BadFormat, MissingDependency: as for ``load``.
        """
        if part not in PARTS:
            raise NotFound(f"no part {part!r}; there are {', '.join(PARTS)}", code="part-not-found")
        transformers = need("transformers", extra="transformers", what=f"load a {part}")
        home = directory(folder, description, "config.json")
        check_settings(home)
        arguments = {"local_files_only": True} if part == "generation_config" else _LOCAL
        try:
            return getattr(transformers, PARTS[part]).from_pretrained(str(home), **arguments)
        except Exception as error:
            raise BadFormat(f"transformers cannot build the {part} ({reason(error)})") from error


class TransformersSaver:
    """Models, tokenizers and processors, alone, together in a tuple or dictionary, or as a pipeline."""

    framework = "transformers"

    def accepts(self, model: object) -> bool:
        """A ``PreTrainedModel``, a ``Pipeline``, or a tuple, list or dictionary of a model and its tokenizer."""
        members = _members(model)
        return any(_is_model(member) for member in members) and all(_saves(member) for member in members)

    def save(self, model: object, folder: Path) -> Saved:
        """Write the folder that ``from_pretrained`` reads, weights as safetensors.

        Raises:
            InvalidInput: there is more than one model, its class is not transformers' own, or it cannot be saved so.
        """
        members = _members(model)
        models = [member for member in members if _is_model(member)]
        if len(models) != 1:
            raise InvalidInput(
                f"expected one model and what belongs to it, found {len(models)} models", code="unsaveable"
            )
        notes = []
        if not type(models[0]).__module__.startswith("transformers."):
            name = f"{type(models[0]).__module__}.{type(models[0]).__qualname__}"
            notes.append(
                f"the class {name} is code and is not stored: loading refuses it, assay.open reads the tensors"
            )
        for member in members:
            try:
                member.save_pretrained(str(folder))
            except Exception as error:
                raise InvalidInput(
                    f"{type(member).__name__} cannot be saved ({reason(error)})",
                    code="unsaveable",
                    hint="save_pretrained it yourself and push the folder",
                ) from error
        for file in folder.glob("*.safetensors"):
            sort_safetensors_header(file)
        modules = dict.fromkeys(module for member in members for module in top_modules(member))
        return Saved(("transformers", *modules), notes=notes)


def check_settings(home: Path) -> None:
    """Look through a folder's settings for values that make transformers fetch or run code in spite of its arguments.

    ``trust_remote_code`` in a nested section and attention or kernel implementations named ``owner/repository`` have
    been ways around ``trust_remote_code=False`` (CVE-2026-4372, CVE-2026-5241).

    Raises:
        Refused: one is there (code ``custom-code``).
        BadFormat: a settings file is not a JSON object.
    """
    check_shards(home)
    for name in _SETTINGS:
        _check_vocabulary(name, settings(home / name))
        for key, value in _walk(settings(home / name), 0):
            trusts = key == "trust_remote_code" and bool(value)
            fetches = ("implementation" in key or "kernel" in key) and "/" in str(value)
            if trusts or fetches:
                raise Refused(
                    f"{name} asks for code from elsewhere: {key} is {value!r:.100}",
                    code="custom-code",
                    hint=f"remove {key} from {name} and push again",
                )


def check_shards(home: Path) -> None:
    """See that the indexes of a folder name files of this folder only: libraries join the names to it unchecked.

    Raises:
        Refused: one leads elsewhere (code ``path-escape``).
        BadFormat: an index is not a JSON object.
    """
    for index in sorted(home.glob("*.index.json")):
        shards = settings(index).get("weight_map", {})
        for name in set(map(str, shards.values())) if isinstance(shards, Mapping) else ():
            if leads_outside(name):
                raise Refused(
                    f"{index.name} names weights outside the folder: {name!r:.120}", code="path-escape", path=index.name
                )


def leads_outside(path: str) -> bool:
    """Whether a name, joined to a folder, may lead out of it."""
    parts = path.replace("\\", "/").split("/")
    return path.startswith(("/", "\\", "~")) or ".." in parts or ":" in parts[0] or "\0" in path


def _check_vocabulary(name: str, found: Mapping[str, Any]) -> None:
    """Tokenizers are built with their settings as arguments, among which some are names of files to read.

    ``vocab`` and ``merges`` are files where they are text. Old releases noted where their files lay on the machine
    that saved them; those names are harmless where nothing is there.
    """
    fast = found.get("fast_tokenizer_files")
    suspects = [(key, found.get(key)) for key in ("vocab", "merges") if isinstance(found.get(key), str)]
    suspects += (
        [("fast_tokenizer_files", item) for item in fast or () if leads_outside(str(item))]
        if isinstance(fast, list)
        else []
    )
    suspects += [("init_inputs", found["init_inputs"])] if found.get("init_inputs") else []
    for key, value in found.items():
        if (
            isinstance(value, str)
            and key.endswith("_file")
            and leads_outside(value)
            and os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111 - of no such user, it stays as it is
        ):
            suspects.append((key, value))
    for key, value in suspects:
        raise Refused(
            f"{name} names a file to read: {key} is {value!r:.100}",
            code="path-escape",
            hint=f"remove {key} from {name} and push again",
        )


def _walk(value: object, depth: int) -> Iterator[tuple[str, object]]:
    if depth > _MAX_DEPTH:
        raise Refused("the settings are nested too deeply to be looked through", code="custom-code")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(item, (Mapping, list)) or "implementation" in str(key) or "kernel" in str(key):
                yield str(key), item
            yield from _walk(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, depth + 1)


def _model_class(transformers: Any, config: Mapping[str, Any]) -> Any:
    """The class the configuration names, when it is one of transformers; else the bare model of the family."""
    stated = config.get("architectures")
    names = [name for name in stated if isinstance(name, str)] if isinstance(stated, list) else []
    base = transformers.PreTrainedModel
    for name in names:
        cls = getattr(transformers, name, None) if name.isidentifier() and not name.startswith("_") else None
        if isinstance(cls, type) and issubclass(cls, base):
            return cls
    known = config.get("model_type") in transformers.CONFIG_MAPPING
    if not known:
        what = names[0] if names else str(config.get("model_type"))
        custom = "auto_map" in config
        raise Refused(
            f"{what!s:.100} is not a class of transformers {transformers.__version__}"
            + (": its code comes with the model" if custom else ""),
            code="custom-code",
            hint="load it with transformers where you trust its code; assay.open reads its tensors"
            if custom
            else "a newer transformers may have it; assay.open reads its tensors",
        )
    return transformers.AutoModel


def _members(model: object) -> list[Any]:
    if is_instance(model, "transformers.pipelines.base.Pipeline"):
        names = ("model", "tokenizer", "feature_extractor", "image_processor", "processor")
        return [member for member in (getattr(model, name, None) for name in names) if member is not None]
    if isinstance(model, (tuple, list)):
        return list(model)
    if isinstance(model, Mapping):
        return list(model.values())
    return [model]


def _is_model(value: object) -> bool:
    return imported("transformers") is not None and is_instance(value, "transformers.modeling_utils.PreTrainedModel")


def _saves(value: object) -> bool:
    return _is_model(value) or ("transformers" in top_modules(value) and hasattr(value, "save_pretrained"))
