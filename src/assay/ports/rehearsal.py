"""The port of rehearsals: a clean environment, a model loaded in it, and its example run, out of reach of anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assay.spec.example import Example
from assay.spec.json import Json
from assay.spec.rehearsal import Trial


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model was recorded to need.

    Args:
        what: the model, for messages.
        environment: predicate of its ``environment`` statement, where one was recorded.
        described: distributions that its files name (PEP 508).
        modules: top-level packages that its example needs besides.
    """

    what: str
    environment: Mapping[str, Json] | None
    described: Sequence[str]
    modules: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """What is to be loaded.

    Args:
        what: what it is called, for messages.
        folder: its files, and nothing else.
        entries: their paths in it.
        files: where the bytes really lie, when the folder holds links to them.
        permitted: classes that the policies let pickles name.
        example: what to run; None to load only.
    """

    what: str
    folder: Path
    entries: Sequence[str]
    files: Sequence[Path]
    permitted: Sequence[str] = ()
    example: Example | None = None


class Rehearser(Protocol):
    """Makes the environment and runs the model in it.

    Contract: the model's code, and that of everything that was installed, runs in the sandbox only.
    """

    def rehearse(self, needs: Needs, model: Model, *, told: Callable[[str], None]) -> Trial:
        """Build or find the environment, load the model there, run its example.

        Args:
            needs: what the environment must hold.
            model: what to load.
            told: hears what is going on, a few words at a time.

        Raises:
            CouldNot: the environment cannot be built, or the process cannot be isolated; nothing was run.
        """
        ...
