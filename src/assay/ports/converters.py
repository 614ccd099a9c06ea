"""The port of converters: turning a model into a form that runs nothing when it is loaded, and proving it the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from assay.spec.description import Description
from assay.spec.json import Json
from assay.trees import Tree


@dataclass(frozen=True, slots=True)
class Proof:
    """Why the result is the same model.

    Args:
        method: ``tensors`` (every tensor bit for bit), ``state`` (every fitted value of the objects) or ``outputs``
            (the same answers to the same inputs); several joined by ``+``.
        tensors: tensors or arrays that were compared.
        outputs: numbers of outputs that were compared.
        max_difference: the largest difference of any output.
        tolerance: how large it may be; tensors and states have none.
        digests: tensor to the sha256 of its elements, at most ``MAX_DIGESTS``.
        digest: sha256 over all names, types, shapes and digests; empty when no tensors were compared.
    """

    method: str
    tensors: int = 0
    outputs: int = 0
    max_difference: float = 0.0
    tolerance: float = 0.0
    digests: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    def to_json(self) -> dict[str, Json]:
        """The proof as a JSON object."""
        body: dict[str, Json] = {
            "method": self.method,
            "tensors": self.tensors,
            "outputs": self.outputs,
            "max_difference": self.max_difference,
            "tolerance": self.tolerance,
        }
        if self.digest:
            body["digest"] = self.digest
        if self.digests:
            body["digests"] = dict(self.digests)
        return body


MAX_DIGESTS = 2000
"""Digests of single tensors that a record keeps."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something of the source that is not in the result.

    Args:
        where: its place in the object.
        what: what it is.
    """

    where: str
    what: str

    def to_json(self) -> dict[str, Json]:
        """It as a JSON object."""
        return {"where": self.where, "what": self.what}


@dataclass(frozen=True, slots=True)
class Converted:
    """What one converter made of one model.

    Args:
        files: entry paths it wrote, relative to the output folder.
        replaced: entries of the source they stand for.
        proof: why it is the same.
        isolation: what a sandbox enforced where a framework had to run; None where none ran.
        dropped: what is not in the result, because the person said so.
        notes: what else is worth knowing.
    """

    files: tuple[str, ...]
    replaced: tuple[str, ...]
    proof: Proof
    isolation: Mapping[str, Json] | None = None
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert.

    Args:
        weights_only: keep the model's weights and drop what has no safe form; the record names it.
    """

    weights_only: bool = False


@runtime_checkable
class Converter(Protocol):
    """From some formats to one safe format.

    Contract: nothing of the model runs outside a sandbox; the result is proved equal or an error is raised; files are
    written below the output folder only, and whoever calls removes them when an error is raised.
    """

    @property
    def formats(self) -> Sequence[str]:
        """Names of the formats it converts from."""
        ...

    @property
    def target(self) -> str:
        """Name of the format it converts to."""
        ...

    def obstacle(self, description: Description) -> str | None:
        """Why this model cannot be converted, as far as its description tells; None when nothing speaks against it."""
        ...

    def convert(self, tree: Tree, description: Description, out: Path, options: Options) -> Converted:
        """Convert, and prove it.

        Raises:
            InvalidInput: it holds something that the target cannot (code ``not-convertible``).
            IntegrityError: the result is not the same (code ``not-equal``).
            Refused: it would have to run foreign code.
            MissingDependency: a library is not installed.
        """
        ...
