"""The ports of loaders and savers: the only code that imports frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from assay.spec.description import Description
from assay.spec.json import Json


@runtime_checkable
class Loader(Protocol):
    """Builds a framework's own object from verified local files.

    Contract: nothing is unpickled except through an unpickler that resolves an exact allow-list of globals; nothing in
    the files configures the loader; no network.
    """

    @property
    def formats(self) -> Sequence[str]:
        """Names of the formats it loads, most wanted first."""
        ...

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:
        """Build the object.

        Args:
            folder: the artifact's files, read-only.
            description: what the loader was chosen for.
            descriptions: everything found in the artifact.

        Raises:
            Refused: it cannot be loaded without running foreign code; says what would run and the way out.
            MissingDependency: the framework is not installed; says what to install.
            BadFormat: the framework cannot read it.
        """
        ...


@runtime_checkable
class PartLoader(Protocol):
    """A loader that can also give parts beside the model (a tokenizer)."""

    def load_part(self, folder: Path, description: Description, part: str) -> object:
        """The part called *part*.

        Raises:
            NotFound: there is none (code ``part-not-found``).
        """
        ...


@runtime_checkable
class DeviceLoader(Protocol):
    """A loader that can place what it builds on a device of its framework."""

    def load_on(
        self, folder: Path, description: Description, *, descriptions: Sequence[Description], device: object
    ) -> object:
        """Build the object as ``Loader.load`` does, with its tensors on *device*.

        Raises:
            InvalidInput: the framework has no such device (code ``no-device``).
            As ``Loader.load``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """What a saver wrote.

    Args:
        modules: names of the top-level modules whose distributions the model needs.
        hyperparameters: settings found on the live object.
        notes: what was left out or changed, for people.
    """

    modules: Sequence[str] = ()
    hyperparameters: Mapping[str, Json] = field(default_factory=dict)
    notes: Sequence[str] = ()


@runtime_checkable
class Saver(Protocol):
    """Writes a live object in the safest form its framework has."""

    @property
    def framework(self) -> str:
        """Name of the framework."""
        ...

    def accepts(self, model: object) -> bool:
        """Whether it can save this object; must not import the framework when it is not already imported."""
        ...

    def save(self, model: object, folder: Path) -> Saved:
        """Write the model's files into an empty folder.

        Raises:
            InvalidInput: this object cannot be saved safely; says why and the way out.
        """
        ...
