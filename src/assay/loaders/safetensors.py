"""safetensors files: a dictionary of tensors; dictionaries of numpy arrays are saved as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, InvalidInput, MissingDependency
from assay.loaders.devices import device_of
from assay.loaders.frameworks import need, reason
from assay.loaders.places import file_of
from assay.loaders.reproducible import sort_safetensors_header
from assay.ports.loaders import Saved
from assay.spec.description import Description


class SafetensorsLoader:
    """Single files and the shards of an index."""

    formats: ClassVar[Sequence[str]] = ("safetensors",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A dictionary of ``torch.Tensor``, or of ``numpy.ndarray`` when torch is not installed.

        torch's tensors are views of a private memory map of the file.

        Tied weights that were stored once (``safetensors.torch.save_model``) come back under each of their names.

        Raises:
            BadFormat: the library cannot read a file.
            MissingDependency: safetensors is not installed.
        """
        return self._load(folder, description, _framework(), "cpu")

    def load_on(
        self,
        folder: Path,
        description: Description,
        *,
        descriptions: Sequence[Description],  # noqa: ARG002 - the port's shape
        device: object,
    ) -> object:
        """A dictionary of ``torch.Tensor`` on a device.

        Raises:
            InvalidInput: torch cannot use the device (code ``no-device``).
            As ``load``.
        """
        torch = need("torch", extra="torch", what="load tensors onto a device")
        return self._load(folder, description, "pt", str(device_of(torch, device)))

    def _load(self, folder: Path, description: Description, framework: str, device: str) -> object:
        library = need("safetensors", extra="torch", what="load safetensors")
        found: dict[str, Any] = {}
        # The library cannot load onto "meta"; its tensors on the CPU are views of a map, of which nothing is read.
        meta = device.partition(":")[0] == "meta"
        read_to = "cpu" if meta else device
        for path in description.paths:
            if path.endswith(".json"):
                continue
            try:
                with library.safe_open(str(file_of(folder, path)), framework=framework, device=read_to) as tensors:
                    for name in tensors.keys():  # noqa: SIM118 - not a mapping
                        tensor = tensors.get_tensor(name)
                        found[name] = tensor.to(device) if meta else tensor
                    metadata = tensors.metadata() or {}
            except Exception as error:
                raise BadFormat(f"safetensors cannot read {path} ({reason(error)})", path=path) from error
            for name, kept in metadata.items():
                if name not in found and kept in found:
                    found[name] = found[kept]
        return found


class ArraysSaver:
    """Dictionaries of numpy arrays."""

    framework = "numpy"

    def accepts(self, model: object) -> bool:
        """A dictionary with only numpy arrays as values."""
        return (
            isinstance(model, Mapping)
            and len(model) > 0
            and all(type(value).__module__ == "numpy" and hasattr(value, "dtype") for value in model.values())
        )

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.safetensors``.

        Raises:
            InvalidInput: an array's dtype has no safetensors counterpart (code ``unsaveable``).
            MissingDependency: safetensors is not installed.
        """
        library = need("safetensors.numpy", extra="torch", what="save arrays")
        arrays = {str(key): value for key, value in model.items()}  # type: ignore[attr-defined] # accepts() says so
        file = folder / "model.safetensors"
        try:
            library.save_file({key: value.copy(order="C") for key, value in arrays.items()}, str(file))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"these arrays cannot be saved as safetensors ({reason(error)})",
                code="unsaveable",
                hint="convert text and object arrays to numbers, or save them yourself and push the path",
            ) from error
        sort_safetensors_header(file)
        return Saved(("numpy", "safetensors"))


def _framework() -> str:
    try:
        need("torch", what="load tensors")
    except MissingDependency:
        return "numpy"
    return "pt"
