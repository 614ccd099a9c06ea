"""Keras: ``.keras`` archives and HDF5 models of Keras's own layers; live models to ``.keras``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, CouldNot, InvalidInput, MissingDependency
from assay.loaders.frameworks import is_instance, need, reason, top_modules
from assay.loaders.hazards import refuse_hazards, renamed
from assay.loaders.places import main_file
from assay.loaders.reproducible import settle_keras
from assay.ports.loaders import Saved
from assay.spec.description import Description

MINIMUM = (3, 11, 3)
"""Keras before 3.11.3 ignores ``safe_mode`` for HDF5 files (CVE-2025-9905)."""

_HINT = (
    "load it with Keras where you trust it and save it again without Lambda layers and custom code; "
    "assay.open reads its tensors"
)


class KerasLoader:
    """Keras models, from one file."""

    formats: ClassVar[Sequence[str]] = ("keras", "keras-h5")

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``keras.Model``, not compiled.

        Raises:
            Refused: it holds Lambda layers, foreign classes or links to other files (code ``unsafe-model``).
            BadFormat: it holds weights only (code ``weights-only``), or Keras cannot read it.
            MissingDependency: Keras or its backend is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        file = main_file(folder, description, ".keras", ".h5", ".hdf5")
        if description.architecture is None and not description.components and description.tensors:
            raise BadFormat(
                f"{file.name} holds weights without the model they belong to",
                code="weights-only",
                hint="build the model in your code and load_weights the pulled file; assay.open reads its tensors",
            )
        keras = _keras("load a Keras model")
        try:
            with renamed(file, ".h5" if description.format == "keras-h5" else ".keras") as named:
                return keras.saving.load_model(str(named), compile=False, safe_mode=True)
        except Exception as error:
            raise BadFormat(f"Keras cannot read {file.name} ({reason(error)})", path=file.name) from error


class KerasSaver:
    """Live ``keras.Model`` objects."""

    framework = "keras"

    def accepts(self, model: object) -> bool:
        """A model of Keras 3."""
        return is_instance(model, "keras.src.models.model.Model")

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.keras``.

        Raises:
            InvalidInput: Keras cannot save it (code ``unsaveable``).
        """
        file = folder / "model.keras"
        try:
            model.save(str(file))  # type: ignore[attr-defined] # accepts() says so
        except Exception as error:
            raise InvalidInput(f"Keras cannot save this model ({reason(error)})", code="unsaveable") from error
        settle_keras(file)
        return Saved(("keras", *top_modules(model)))


def _keras(what: str) -> Any:
    try:
        keras = need("keras", extra="tensorflow", what=what)
    except MissingDependency:
        raise
    except Exception as error:
        raise MissingDependency(f"Keras is needed to {what} and cannot be imported ({reason(error)})") from error
    version = tuple(int(part) for part in keras.__version__.split(".")[:3] if part.isdigit())
    if version < MINIMUM:
        raise CouldNot(
            f"keras {keras.__version__} does not load safely: it ignores safe_mode for HDF5 files (CVE-2025-9905)",
            code="unsafe-library",
            hint="pip install 'keras>=3.11.3'",
        )
    return keras
