"""numpy: ``.npz`` archives and ``.npy`` files, without the pickles numpy can hide in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from assay.errors import BadFormat, Refused
from assay.loaders.frameworks import reason
from assay.loaders.places import main_file
from assay.spec.description import Description


class NumpyLoader:
    """Arrays of numbers and text."""

    formats: ClassVar[Sequence[str]] = ("npz",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A dictionary of arrays for an archive, one array for a single file.

        Raises:
            Refused: an array holds pickled objects (code ``unsafe-pickle``).
            BadFormat: numpy cannot read it.
        """
        file = main_file(folder, description)
        try:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                return {name: found[name] for name in found.files}
        except Exception as error:
            if "allow_pickle" in str(error):
                raise Refused(
                    f"{file.name} is not loaded: an array in it holds pickled objects",
                    code="unsafe-pickle",
                    hint="save numbers and text only; assay.open reads the other arrays",
                ) from error
            raise BadFormat(f"numpy cannot read {file.name} ({reason(error)})", path=file.name) from error
