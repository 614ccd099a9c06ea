"""MLflow model directories: the model inside, with the loader of its own format.

MLflow itself is never asked: its ``loader_module``, ``code`` and ``python_model`` run what the directory says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from assay.errors import NotFound, Refused
from assay.loaders.places import inside
from assay.ports.loaders import Loader
from assay.spec.description import Description


class MlflowLoader:
    """The inner flavor of an MLflow model.

    Args:
        loaders: those of the formats that can lie inside.
    """

    formats: ClassVar[Sequence[str]] = ("mlflow",)

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self._loaders = loaders

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:
        """What the inner format's loader gives.

        Raises:
            Refused: the model is Python code of the directory (code ``custom-code``).
            NotFound: nothing inside can be loaded (code ``no-loader``).
            As the inner loader.
        """
        found = inside(description, descriptions)
        matching = [other for other in found if other.framework == description.framework]
        for inner in (*matching, *found):
            loader = next((loader for loader in self._loaders if inner.format in loader.formats), None)
            if loader is not None:
                return loader.load(folder, inner, descriptions)
        code = [finding for finding in description.findings if finding.severity.value == "execute"]
        if code:
            raise Refused(
                f"the MLflow model is not loaded: {code[0].message}",
                code="custom-code",
                hint="load it with mlflow where you trust its code; assay.pull gives the directory",
            )
        flavor = description.framework or "its flavor"
        raise NotFound(
            f"no loader for what this MLflow model holds ({flavor})",
            code="no-loader",
            hint="assay.pull gives the directory; mlflow.pyfunc.load_model loads it where you trust it",
        )
