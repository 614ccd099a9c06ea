"""sentence-transformers: the whole pipeline of modules from a local folder, no code of the repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from assay.errors import BadFormat, InvalidInput, Refused
from assay.loaders.frameworks import is_instance, need, reason
from assay.loaders.hazards import MAX_SETTINGS, refuse_hazards
from assay.loaders.places import directory
from assay.loaders.reproducible import sort_safetensors_header
from assay.loaders.transformers import check_settings
from assay.ports.loaders import Saved
from assay.spec.description import Description

_HINT = "load it with sentence-transformers where you trust its code; assay.open reads its tensors"
_CLASSES = {
    "SentenceTransformer": "sentence_transformers",
    "CrossEncoder": "sentence_transformers",
    "SparseEncoder": "sentence_transformers",
}


class SentenceTransformersLoader:
    """Folders with a ``modules.json``."""

    formats: ClassVar[Sequence[str]] = ("sentence-transformers",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``SentenceTransformer`` (or ``SparseEncoder``, ``CrossEncoder``, as the folder says) on the CPU.

        Raises:
            Refused: a module is a class outside sentence-transformers (code ``custom-code`` or ``unsafe-model``).
            BadFormat: the library cannot build it.
            MissingDependency: the library is not installed.
        """
        home = directory(folder, description, "modules.json", "config_sentence_transformers.json")
        refuse_hazards(description, hint=_HINT, ignore=("huggingface-auto-map",))
        _check_modules(home)
        library = need("sentence_transformers", distribution="sentence-transformers", extra="transformers",
                       what="load a sentence-transformers model")  # fmt: skip
        stated = _json(home / "config_sentence_transformers.json")
        name = stated.get("model_type") if isinstance(stated, dict) else None
        cls = getattr(library, name if name in _CLASSES else "SentenceTransformer")
        try:
            return cls(str(home), device="cpu", local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise BadFormat(f"sentence-transformers cannot build the model ({reason(error)})") from error


class SentenceTransformersSaver:
    """Live ``SentenceTransformer`` objects and their kin."""

    framework = "sentence-transformers"

    def accepts(self, model: object) -> bool:
        """A model of the library."""
        return is_instance(model, *_names())

    def save(self, model: object, folder: Path) -> Saved:
        """Write the folder the library reads, weights as safetensors, without a generated model card.

        Raises:
            InvalidInput: the library cannot save it (code ``unsaveable``).
        """
        try:
            model.save_pretrained(str(folder), create_model_card=False)  # type: ignore[attr-defined] # accepts() says so
        except Exception as error:
            raise InvalidInput(f"the model cannot be saved ({reason(error)})", code="unsaveable") from error
        for file in folder.rglob("*.safetensors"):
            sort_safetensors_header(file)
        return Saved(("sentence_transformers", "transformers", "torch"))


def _names() -> tuple[str, ...]:
    homes = ("SentenceTransformer", "sentence_transformer.model", "sentence_transformer.SentenceTransformer",
             "sparse_encoder.model", "sparse_encoder.SparseEncoder", "cross_encoder.model",
             "cross_encoder.CrossEncoder")  # fmt: skip
    return tuple(f"sentence_transformers.{home}.{name}" for home in homes for name in _CLASSES)


def _check_modules(home: Path) -> None:
    modules = _json(home / "modules.json")
    for module in modules if isinstance(modules, list) else []:
        kind = module.get("type") if isinstance(module, dict) else None
        place = module.get("path", "") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            raise Refused(
                f"modules.json names a class outside sentence-transformers: {kind!r:.120}",
                code="custom-code",
                hint=_HINT,
            )
        if not isinstance(place, str) or place.startswith("/") or ".." in place.split("/"):
            raise Refused(f"modules.json leads outside the folder: {place!r:.120}", code="path-escape")
        check_settings(home / place)
    check_settings(home)


def _json(file: Path) -> object:
    if not file.is_file() or file.stat().st_size > MAX_SETTINGS:
        return None
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFormat(f"{file.name} is not JSON ({error})", path=file.name) from error
