"""Pipelines and single models written by diffusers: the parts, their classes and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.containers.documents import plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.huggingface.card import read_card
from assay.formats.huggingface.code import report_code
from assay.formats.huggingface.folder import Folder
from assay.formats.huggingface.roots import find_roots, pipeline_components, root_of, side_files
from assay.formats.huggingface.tokenizer import read_tokenizer
from assay.spec.description import Component, Description, Tokenizer
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.trees import Tree

_INDEX = "model_index.json"
_SETTINGS = ("config.json", "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json")
_LIBRARIES = frozenset(
    "diffusers transformers onnxruntime.training peft optimum audioldm audioldm2 blip_diffusion consisid "
    "controlnet deepfloyd_if flux hunyuandit kandinsky kandinsky2_2 kandinsky3 latent_diffusion ledits_pp lumina "
    "musicldm paint_by_example pixart_alpha shap_e stable_audio stable_cascade stable_diffusion "
    "stable_diffusion_safe stable_diffusion_xl unidiffuser versatile_diffusion wuerstchen".split()
)
_OWN = "the pipeline's class is code that comes with the model"
_EFFECT = "run Python source from the artifact"
_CLASS = re.compile(r"[A-Z]\w*", re.ASCII)
_TASKS = (
    # part of a pipeline's class name, and what it does; the first that fits counts
    ("Inpaint", "image-inpainting"),
    ("Img2Img", "image-to-image"),
    ("InstructPix2Pix", "image-to-image"),
    ("Upscale", "image-to-image"),
    ("ImageToVideo", "image-to-video"),
    ("VideoDiffusion", "text-to-video"),
    ("TextToVideo", "text-to-video"),
    ("Audio", "text-to-audio"),
    ("StableDiffusion", "text-to-image"),
    ("Flux", "text-to-image"),
    ("PixArt", "text-to-image"),
    ("Kandinsky", "text-to-image"),
    ("DDPM", "unconditional-image-generation"),
    ("DDIM", "unconditional-image-generation"),
)


class DiffusersFormat:
    """Describes a folder with a ``model_index.json``, or a single model of diffusers."""

    name = "diffusers"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per pipeline with the side files of all its parts, and per model outside a pipeline."""
        roots = find_roots(tree)
        groups = [
            side_files(tree, [root, *folders], Folder(tree, root).path(_INDEX))
            for root, folders in roots.pipelines.items()
        ]
        return [
            *groups,
            *(side_files(tree, [root], Folder(tree, root).path("config.json")) for root in roots.components),
        ]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """The pipeline's parts with their classes and settings.

        Raises:
            BadFormat: the index, or the single model's configuration, cannot be read.
        """
        with guarded("a diffusers folder", paths[0]):
            folder = Folder(tree, root_of(paths))
            single = not paths[0].endswith(_INDEX)
            index = folder.object("config.json" if single else _INDEX)
            kind, version = index.get("_class_name"), index.get("_diffusers_version")
            if isinstance(kind, list) and kind:
                folder.report("custom-pipeline", Severity.EXECUTE, _OWN, _INDEX, str(kind), _EFFECT)
                kind = str(kind[-1])
            if not isinstance(kind, str):
                raise BadFormat(f"{paths[0]}: not an index of diffusers", path=paths[0])
            card = read_card(folder)
            metadata: dict[str, Json] = dict(card.metadata)
            components: list[Component] = []
            tokenizers: dict[str, Tokenizer] = {}
            requirements = ["diffusers"]
            for name in [] if single else pipeline_components(index):
                component = _component(folder, name, index[name], metadata)
                if component is None:
                    continue
                components.append(component)
                if component.kind.startswith("transformers."):
                    requirements.append("transformers")
                tokens = read_tokenizer(folder.sub(name))
                if tokens.tokenizer:
                    tokenizers[name] = tokens.tokenizer
                    requirements.extend(tokens.requirements)
            if len(tokenizers) > 1:
                metadata["tokenizers"] = {name: found.kind for name, found in tokenizers.items()}
            if folder.weights():
                metadata["weights"] = list(folder.weights())
            if isinstance(version, str):
                metadata["recorded_versions"] = {"diffusers": version[:60]}
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                framework="diffusers",
                framework_version=version[:60] if isinstance(version, str) else None,
                architecture=kind[:200],
                task=card.pipeline_tag or (None if single else _task(kind)),
                tokenizer=next(iter(tokenizers.values()), None),
                hyperparameters=_settings(index, skip=() if not single else ("_class_name", "_diffusers_version")),
                metrics=card.metrics,
                components=tuple(components),
                requirements=tuple(dict.fromkeys(requirements)),
                base_models=card.base_models,
                languages=card.languages,
                licenses=card.licenses,
                metadata=metadata,
                findings=tuple(folder.findings),
            )


def _component(folder: Folder, name: str, entry: Json, metadata: dict[str, Json]) -> Component | None:
    """One part: its class from the index, its settings from its own folder; None when the index leaves it out."""
    library, kind = entry if isinstance(entry, list) else (None, None)
    if library is None or kind is None:
        return None
    part = folder.sub(name)
    settings: dict[str, Json] = {}
    for file in _SETTINGS:
        found = part.object(file)
        report_code(part, file, found)
        settings.update(_settings(found, skip=("_class_name", "_diffusers_version")))
        if "transformers_version" in found:
            metadata.setdefault("transformers_version", plain(found["transformers_version"]))
    local = [f"{name}/{library}.py", f"{library}.py", f"{name}.py"]
    if str(library) not in _LIBRARIES or not _CLASS.fullmatch(str(kind)) or local[0] in folder:
        here = next((file for file in local if file in folder), None)
        where = f"code of the artifact ({here})" if here else "a class outside diffusers and transformers"
        message = f"component {name!r:.100} is {where}: {library!s:.80}.{kind!s:.80}"
        folder.report("foreign-class", Severity.EXECUTE, message, _INDEX, f"{library}.{kind}")
    return Component(name[:200], f"{library!s:.100}.{kind!s:.100}", settings)


def _settings(config: Mapping[str, Json], skip: Sequence[str]) -> dict[str, Json]:
    """A configuration's plain settings, without the parts a pipeline's index lists."""
    listed = set(pipeline_components(config)) if "_class_name" in config and not skip else set()
    dropped = {*skip, *listed, "_class_name", "_diffusers_version", "chat_template", "added_tokens_decoder"}
    return {key[:200]: plain(value) for key, value in config.items() if key not in dropped and value is not None}


def _task(kind: str) -> str | None:
    return next((task for part, task in _TASKS if part in kind), None)
