"""The port of importers: reading what another registry, cache or folder holds, version by version.

An importer reads; it writes nothing, neither there nor here. What it offers is stored, checked and numbered by
``assay.service.importing``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from assay.errors import AssayError
from assay.spec.json import Json


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the other place says about the bytes of one file.

    Args:
        algorithm: ``sha256``, ``md5``, or ``git-sha1`` (SHA-1 over git's blob header and the bytes).
        hex: lower case.
    """

    algorithm: str
    hex: str


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one offered version, as they lie on this machine.

    Args:
        paths: entry path to file.
        checksums: entry path to what the other place says about it; absent where it says nothing.
    """

    paths: Mapping[str, Path]
    checksums: Mapping[str, Checksum] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """Metrics that were measured on one dataset.

    Args:
        metrics: by name.
        dataset: as it is called there.
        digest: what identifies the dataset there.
    """

    metrics: Mapping[str, float]
    dataset: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One version there.

    Args:
        model: name of the model there.
        label: what tells the version from others of the model there (``3``, ``v1.2.0``, a commit).
        created: when it was made there, RFC 3339; None when that is not known.
        actor: who made it there.
        params: training parameters.
        metrics: measured at training, on no stated dataset.
        results: measured on a dataset.
        run: URI or id of the training run.
        run_details: what else is known of the run: its name, state, times, source.
        note: description.
        tags: keys and values a person set there.
        aliases: movable names that point at it there.
        base: what it was made from, as it is called there.
        where: place of the bytes, for messages; without credentials.
        open: gives the files for as long as the context is open.
    """

    model: str
    label: str
    created: str | None = None
    actor: str | None = None
    params: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    run: str | None = None
    run_details: Mapping[str, Json] = field(default_factory=dict)
    note: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    base: str | None = None
    where: str = ""
    open: Opening


class Opening(Protocol):
    """Makes the files of an offered version available."""

    def __call__(self) -> AbstractContextManager[Files]:
        """The files; they may be gone when the context is left.

        Raises:
            NotFound: they are not where they should be, or cannot be reached from here.
        """


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A version there that cannot be offered.

    Args:
        model, label: as in ``Offered``.
        error: why.
    """

    model: str
    label: str
    error: AssayError


class Importer(Protocol):
    """Reads one place."""

    @property
    def system(self) -> str:
        """What kind of place it is: ``mlflow``, ``huggingface-cache``, ``git``, ``dvc``, ``folder``."""
        ...

    @property
    def place(self) -> str:
        """Where it is, without credentials."""
        ...

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Every version, per model from the oldest to the newest.

        Raises:
            NotFound: the place is not there.
            BadFormat: it is not what it was taken for.
        """
        ...
