"""GGUF: llama.cpp's Python binding, where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from assay.errors import BadFormat, CouldNot, MissingDependency
from assay.loaders.frameworks import need, reason
from assay.loaders.hazards import refuse_hazards
from assay.loaders.places import main_file
from assay.spec.description import Description

MINIMUM = (0, 2, 72)
"""llama-cpp-python before 0.2.72 renders the chat template of a file outside Jinja's sandbox (CVE-2024-34359)."""


class GgufLoader:
    """Quantised language models."""

    formats: ClassVar[Sequence[str]] = ("gguf",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``llama_cpp.Llama``.

        Raises:
            Refused: it could not be read whole (code ``unsafe-model``).
            CouldNot: the binding is too old (code ``unsafe-library``).
            BadFormat: llama.cpp cannot read it.
            MissingDependency: llama-cpp-python is not installed; the file can still be opened and pulled.
        """
        refuse_hazards(description, hint="load it with llama.cpp where you trust it", whole=True)
        try:
            library = need("llama_cpp", distribution="llama-cpp-python", what="load a GGUF model")
        except MissingDependency as error:
            raise MissingDependency(
                error.message,
                hint="pip install llama-cpp-python; assay.open reads its tensors; after assay.pull, any llama.cpp "
                "program or transformers (gguf_file=) can use the file",
                dependency="llama-cpp-python",
            ) from error
        version = tuple(int(part) for part in str(library.__version__).split(".")[:3] if part.isdigit())
        if version < MINIMUM:
            raise CouldNot(
                f"llama-cpp-python {library.__version__} does not load safely: it runs chat templates unconfined",
                code="unsafe-library",
                hint="pip install 'llama-cpp-python>=0.2.72'",
            )
        file = main_file(folder, description)
        try:
            return library.Llama(model_path=str(file), verbose=False)
        except Exception as error:
            raise BadFormat(f"llama.cpp cannot read {file.name} ({reason(error)})", path=file.name) from error
