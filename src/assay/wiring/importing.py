"""Importing from what a person names: which kind of place it is, and which reader fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import InvalidInput, NotFound
from assay.importers.checkpoints import CheckpointFolder
from assay.importers.dvc import DvcRepository
from assay.importers.git import GitRepository
from assay.importers.hub_cache import HubCache, is_model
from assay.importers.hub_folder import HubFolder, is_downloaded
from assay.importers.local import SERVED, local_path
from assay.importers.mlflow_files import MlflowFiles, is_store
from assay.later import later
from assay.ports.importers import Importer, Offered, Unreadable
from assay.service.importing import unreadable
from assay.settings import expanded

if TYPE_CHECKING:
    from assay.importers import mlflow_server, mlflow_sql
else:
    mlflow_server = later("assay.importers.mlflow_server")
    mlflow_sql = later("assay.importers.mlflow_sql")

KINDS = ("mlflow", "huggingface-cache", "git", "dvc", "folder")
"""Kinds of place that can be imported."""
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An importer that leaves some of what another one offers out.

    Args:
        importer: the other one.
        models: names there to take; empty takes all.
    """

    importer: Importer
    models: tuple[str, ...] = ()

    @property
    def system(self) -> str:
        """As the other one says."""
        return self.importer.system

    @property
    def place(self) -> str:
        """As the other one says."""
        return self.importer.place

    def offered(self) -> Iterator[Offered | Unreadable]:
        """What is wanted of what the other one offers.

        Raises:
            NotFound: a model that is asked for is not there (code ``import-model-missing``).
            StorageError: the place may not be read (code ``unreadable``).
        """
        seen: set[str] = set()
        try:
            for found in self.importer.offered():
                seen.add(found.model)
                if not self.models or found.model in self.models:
                    yield found
        except OSError as error:
            raise unreadable(f"cannot read {self.place}: {(error.strerror or str(error)).lower()}") from error
        missing = [model for model in self.models if model not in seen]
        if missing:
            raise NotFound(
                f"{self.place} has no model {missing[0]!r}",
                code="import-model-missing",
                hint=f"it has {', '.join(sorted(seen)[:10]) or 'none'}",
            )


class Begun:
    """An importer that was read up to its first version: what is not there is told before a registry is made for it.

    Args:
        importer: the other one.

    Raises:
        As its ``offered``.
    """

    def __init__(self, importer: Importer) -> None:
        self.system = importer.system
        self.place = importer.place
        rows = importer.offered()
        self._rows = chain(list(islice(rows, 1)), rows)

    def offered(self) -> Iterator[Offered | Unreadable]:
        """What the other one offers; once."""
        return self._rows


def importer_of(
    source: str,
    *,
    kind: str | None = None,
    commits: bool = False,
    artifacts: Mapping[str, Path] | None = None,
) -> Importer:
    """The importer for what a person named.

    Args:
        source: a database URI or a server's address (MLflow), or a folder.
        kind: one of ``KINDS``; told from the source when None.
        commits: whether every commit of a repository is a version.
        artifacts: of an MLflow registry: beginning of a location there to the folder that holds what lies there; then
            nothing outside these folders is read.

    Raises:
        InvalidInput: there is no such kind, or the source is of none (code ``unknown-source``); or an option does not
            go with the kind (code ``import-option``).
        NotFound: there is nothing there (code ``import-source-missing``).
        StorageError: it may not be read (code ``unreadable``).
    """
    try:
        kind = kind or told(source)
    except OSError as error:
        raise unreadable(f"cannot read {source}: {(error.strerror or str(error)).lower()}") from error
    # What is written down of a version must tell the place from wherever the next import starts.
    folder = expanded(source).absolute()
    made: dict[str, Callable[[], Importer]] = {
        "mlflow": lambda: _mlflow(source, artifacts),
        "huggingface-cache": lambda: HubFolder(folder) if is_downloaded(folder) else HubCache(folder),
        "git": lambda: GitRepository(folder, commits=commits),
        "dvc": lambda: DvcRepository(folder),
        "folder": lambda: CheckpointFolder(folder),
    }
    if kind not in made:
        raise InvalidInput(
            f"no such kind of source: {kind!r}", code="unknown-source", hint=f"one of {', '.join(KINDS)}"
        )
    for given, option, fits in ((artifacts, "--artifacts", "mlflow"), (commits, "--commits", "git")):
        if given and kind != fits:
            raise InvalidInput(
                f"{option} is for sources of kind {fits}; {source} is taken for one of kind {kind}",
                code="import-option",
                hint=f"leave it out, or say --from {fits}",
            )
    return made[kind]()


def told(source: str) -> str:
    """What kind of place a source is.

    Raises:
        NotFound: there is nothing there (code ``import-source-missing``).
    """
    if "://" in source:
        return "mlflow"
    path = expanded(source)
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(_SQLITE)) == _SQLITE:
                return "mlflow"
        raise InvalidInput(
            f"{source} is a file and no MLflow database",
            code="unknown-source",
            hint="assay push stores single files",
        )
    if not path.is_dir():
        raise NotFound(
            f"nothing to import from at {source}",
            code="import-source-missing",
            hint="assay import --help lists what SOURCE can be",
        )
    if (path / ".dvc").is_dir():
        return "dvc"
    if (path / ".git").exists() or ((path / "objects").is_dir() and (path / "HEAD").is_file()):
        return "git"
    if is_downloaded(path) or is_model(path) or any(is_model(child) for child in path.iterdir()):
        return "huggingface-cache"
    if (path / "mlflow.db").is_file() or is_store(path) or is_store(path / "mlruns"):
        return "mlflow"
    return "folder"


def folders_of(given: Iterable[str]) -> dict[str, Path]:
    """What ``--artifacts`` says: beginning of a location to a folder; ``FOLDER`` alone is what a server hands out.

    Raises:
        NotFound: there is no such folder (code ``import-source-missing``).

    >>> folders_of([".", "s3://bucket/models=."])
    {'mlflow-artifacts:': PosixPath('.'), 's3://bucket/models': PosixPath('.')}
    """
    found = {}
    for text in given:
        location, _, folder = text.rpartition("=") if not Path(text).is_dir() else ("", "", text)
        path = expanded(folder)
        if not path.is_dir():
            raise NotFound(
                f"no such folder: {folder}",
                code="import-source-missing",
                hint="--artifacts FOLDER, or --artifacts LOCATION=FOLDER",
            )
        found[location or SERVED] = path
    return found


def _mlflow(source: str, artifacts: Mapping[str, Path] | None) -> Importer:
    if source.startswith(("http://", "https://")):
        return mlflow_server.MlflowServer(source, artifacts)
    if "://" in source and not source.startswith("file:"):
        return mlflow_sql.MlflowDatabase(source, artifacts)
    path = expanded(local_path(source))
    if path.is_dir() and not (path / "mlflow.db").is_file():
        return MlflowFiles(path, artifacts)
    file = path / "mlflow.db" if path.is_dir() else path
    return mlflow_sql.MlflowDatabase(f"sqlite:///{file.absolute()}", artifacts)
