"""PyTorch: checkpoints through ``weights_only``, TorchScript through its own interpreter; live modules to safetensors.

TorchScript files hold code, but it is TorchScript's: ``torch.jit.load`` parses it and runs no Python, only torch's
operators, some of them (``__setstate__``) while it loads. A few operators write and map files by name (``aten::save``,
``aten::from_file``): a file that names one, or that could not be read whole, is refused.

``torch.export`` archives are refused: torch rebuilds their example inputs and constants with plain pickle and evaluates
their shape expressions as Python source (torch 2.13), whatever the caller asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, CouldNot, InvalidInput, Refused
from assay.loaders.devices import device_of
from assay.loaders.frameworks import imported, is_instance, need, reason, top_modules
from assay.loaders.hazards import refuse_hazards
from assay.loaders.places import main_file
from assay.loaders.reproducible import sort_safetensors_header
from assay.loaders.saved_record import plain, write_record
from assay.ports.loaders import Saved
from assay.spec.description import Description

MINIMUM = (2, 10)
"""torch before 2.6 could be made to run code in spite of ``weights_only`` (CVE-2025-32434), and torch before 2.10 to
overwrite memory (CVE-2026-24747)."""

_WAY_OUT = (
    "load it with torch where you trust it, save model.state_dict() with safetensors.torch.save_file and push that; "
    "assay.open reads its tensors as it is"
)
_SCRIPT_WAY_OUT = "load it with torch.jit.load where you trust it; assay.open reads its tensors"


class PyTorchLoader:
    """State dicts and checkpoints of plain values and tensors; anything else is refused by torch's own allow-list."""

    formats: ClassVar[Sequence[str]] = ("pytorch",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """What ``torch.load(weights_only=True)`` gives, on the CPU; storages of zip files are memory-mapped.

        Raises:
            Refused: it names something outside torch's allow-list (code ``unsafe-pickle``).
            BadFormat: torch cannot read it.
            MissingDependency: torch is not installed.
        """
        return self._load(folder, description, None)

    def load_on(
        self,
        folder: Path,
        description: Description,
        *,
        descriptions: Sequence[Description],  # noqa: ARG002 - the port's shape
        device: object,
    ) -> object:
        """As ``load``, with the tensors on a device.

        Raises:
            InvalidInput: torch cannot use the device (code ``no-device``).
            As ``load``.
        """
        return self._load(folder, description, device)

    def _load(self, folder: Path, description: Description, device: object) -> object:
        torch = _torch("load a PyTorch checkpoint")
        target = device_of(torch, device)
        file = main_file(folder, description)
        with file.open("rb") as handle:
            zipped = handle.read(4) == b"PK\x03\x04"
        try:
            return torch.load(file, map_location=target, weights_only=True, mmap=zipped)
        except Exception as error:
            if type(error).__name__ == "UnpicklingError" and "eights only" in str(error):
                raise _refused(description, error) from error
            raise BadFormat(f"torch cannot read {file.name} ({reason(error)})", path=file.name) from error


class TorchScriptLoader:
    """TorchScript modules."""

    formats: ClassVar[Sequence[str]] = ("torchscript",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``torch.jit.ScriptModule`` on the CPU, in evaluation mode.

        Raises:
            Refused: its code names operators that reach beyond tensors, or could not be read (code ``unsafe-model``).
            BadFormat: torch cannot read it.
            MissingDependency: torch is not installed.
        """
        refuse_hazards(description, hint=_SCRIPT_WAY_OUT, whole=True)
        torch = _torch("load a TorchScript model")
        file = main_file(folder, description)
        try:
            return torch.jit.load(str(file), map_location="cpu").eval()
        except Exception as error:
            raise BadFormat(f"torch cannot read {file.name} ({reason(error)})", path=file.name) from error


class TorchExportLoader:
    """Refuses what torch cannot load without running what the file says."""

    formats: ClassVar[Sequence[str]] = ("torch-export", "torch-package", "torchserve")

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """Refuse.

        Raises:
            Refused: always (code ``unsafe-loader``).
        """
        what = {
            "torch-export": "torch.export.load unpickles parts of the archive and evaluates source text in it",
            "torch-package": "a torch.package archive holds Python source that importing it runs",
            "torchserve": "a TorchServe archive holds a Python handler",
        }[description.format]
        raise Refused(
            f"{main_file(folder, description).name} is not loaded: {what}",
            code="unsafe-loader",
            hint="save it as TorchScript or ONNX, or its state_dict as safetensors; assay.open reads its tensors",
        )


class PyTorchSaver:
    """Modules and state dicts as safetensors. A module's class is the user's code and is not stored."""

    framework = "pytorch"

    def accepts(self, model: object) -> bool:
        """A module, a scripted module, or a dictionary with tensors as values."""
        return is_instance(model, "torch.nn.modules.module.Module") or (
            isinstance(model, Mapping)
            and len(model) > 0
            and any(is_instance(value, "torch.Tensor", "torch._tensor.Tensor") for value in model.values())
        )

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.safetensors`` (tied weights once) and ``assay_model.json``, or ``model.pt`` for TorchScript.

        Raises:
            InvalidInput: a value of the dictionary is not a tensor, or weights cannot be read (code ``unsaveable``).
            MissingDependency: safetensors is not installed.
        """
        torch: Any = imported("torch")
        if is_instance(model, "torch.jit._script.ScriptModule"):
            torch.jit.save(model, str(folder / "model.pt"))
            return Saved(("torch",))
        save_file = need("safetensors.torch", extra="torch", what="save a PyTorch model").save_file
        module = is_instance(model, "torch.nn.modules.module.Module")
        state = model.state_dict() if module else dict(model)  # type: ignore[attr-defined, call-overload] # told apart above
        unnamed = [
            key for key, value in state.items() if not (isinstance(value, torch.Tensor) and isinstance(key, str))
        ]
        if unnamed:
            raise InvalidInput(
                f"a state dict holds tensors only, found {type(state[unnamed[0]]).__name__} under {unnamed[0]!r:.80}",
                code="unsaveable",
                hint="push {name: tensor} and give the rest as params= or metrics=",
            )
        kept, tied = _untied(state)
        file = folder / "model.safetensors"
        save_file(kept, str(file), metadata={"format": "pt", **tied})
        sort_safetensors_header(file)
        notes = [f"{len(tied)} tied weights are stored once"] if tied else []
        if not module:
            return Saved(("torch", "safetensors"), notes=notes)
        notes.append("the module's class is code and is not stored: loading gives its state dict")
        settings = _settings(model)
        write_record(folder, framework="pytorch", model=model, hyperparameters=settings, notes=notes)
        return Saved(("torch", "safetensors", *top_modules(model)), settings, notes)


def _untied(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Contiguous tensors, and for each left out (it is the same memory as another) the name of the one kept."""
    kept: dict[str, Any] = {}
    tied: dict[str, str] = {}
    owners: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        value = tensor.detach()
        if value.device.type == "meta":
            raise InvalidInput(f"weight {name!r} has no data (device meta)", code="unsaveable")
        pointer = value.untyped_storage().data_ptr()
        view = (str(value.device), pointer, value.storage_offset(), tuple(value.shape), value.stride(), value.dtype)
        if pointer and value.numel() and view in owners:
            tied[name] = owners[view]
            continue
        owners[view] = name
        value = value.cpu().contiguous()
        # safetensors refuses tensors that share memory: a view of a larger storage gets its own.
        kept[name] = value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
    return kept, tied


def _settings(model: object) -> dict[str, Any]:
    """Lightning's ``hparams``, the one place where torch modules keep their settings."""
    found = getattr(model, "hparams", None)
    return {str(key): plain(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _refused(description: Description, error: Exception) -> Refused:
    text = str(error)
    named = text.partition("Unsupported global: GLOBAL ")[2].split(" ")[0] or text.partition("GLOBAL ")[2].split(" ")[0]
    what = f"it names {named}" if named else "it asks for more than tensors and plain values"
    return Refused(
        f"{description.paths[0]} is not loaded: {what}, which torch's weights_only allow-list does not have",
        code="unsafe-pickle",
        hint=_WAY_OUT,
        **({"global": named} if named else {}),
    )


def _torch(what: str) -> Any:
    torch = need("torch", extra="torch", what=what)
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MINIMUM:
        raise CouldNot(
            f"torch {torch.__version__} does not load safely (CVE-2025-32434, CVE-2026-24747)",
            code="unsafe-library",
            hint="pip install 'torch>=2.10'",
        )
    return torch
