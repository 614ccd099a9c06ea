"""peft adapters and diffusers pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from assay.errors import BadFormat, Refused
from assay.loaders.frameworks import need, reason
from assay.loaders.hazards import refuse_hazards
from assay.loaders.places import directory
from assay.loaders.transformers import check_settings
from assay.ports.loaders import Saved
from assay.spec.description import Description


class PeftLoader:
    """Says what an adapter needs: it is no model without its base, which an artifact names but does not hold."""

    formats: ClassVar[Sequence[str]] = ("peft",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """Refuse, naming the base.

        Raises:
            Refused: always (code ``needs-base-model``).
        """
        base = description.base_models[0] if description.base_models else "its base model"
        raise Refused(
            f"an adapter is loaded onto its base model, which is not part of the artifact: {base}",
            code="needs-base-model",
            hint="assay.load the base, assay.pull the adapter, then peft.PeftModel.from_pretrained(base, folder)",
            base=base,
        )


class DiffusersLoader:
    """diffusers pipelines of the library's own classes."""

    formats: ClassVar[Sequence[str]] = ("diffusers",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``DiffusionPipeline`` from local files.

        Raises:
            Refused: a part of it is code of the repository (code ``unsafe-model``).
            BadFormat: diffusers cannot build it.
            MissingDependency: diffusers is not installed.
        """
        refuse_hazards(
            description, hint="load it with diffusers where you trust its code; assay.open reads its tensors"
        )
        home = directory(folder, description, "model_index.json")
        for folder_of_part in (home, *(path for path in home.rglob("*") if path.is_dir())):
            check_settings(folder_of_part)
        diffusers = need("diffusers", what="load a diffusers pipeline")
        try:
            return diffusers.DiffusionPipeline.from_pretrained(
                str(home), local_files_only=True, trust_remote_code=False, use_safetensors=_has_safetensors(home)
            )
        except Exception as error:
            raise BadFormat(f"diffusers cannot build the pipeline ({reason(error)})") from error


class PeftSaver:
    """Live peft models: the adapter alone."""

    framework = "peft"

    def accepts(self, model: object) -> bool:
        """A ``peft.PeftModel``."""
        return any(f"{cls.__module__}.{cls.__qualname__}" == "peft.peft_model.PeftModel" for cls in type(model).__mro__)

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors``."""
        model.save_pretrained(str(folder), safe_serialization=True)  # type: ignore[attr-defined] # accepts() says so
        (folder / "README.md").unlink(missing_ok=True)  # a template that says nothing about this model
        return Saved(("peft", "transformers", "torch"), notes=["the adapter alone is stored; its base is named in it"])


def _has_safetensors(home: Path) -> bool | None:
    return True if any(home.rglob("*.safetensors")) else None
