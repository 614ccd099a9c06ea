"""Importing from what a person names: which kind of place it is, and which reader fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assay.errors import InvalidInput, NotFound
from assay.importers.checkpoints import CheckpointFolder
from assay.importers.dvc import DvcRepository
from assay.importers.git import GitRepository
from assay.importers.hub_cache import HubCache, is_model
from assay.importers.mlflow_server import MlflowServer
from assay.importers.mlflow_sql import MlflowDatabase
from assay.ports.importers import Importer, Offered, Unreadable
from assay.ports.progress import SILENT, Progress
from assay.service.gate import Guard
from assay.service.importing import Imported, Plan, run_import
from assay.service.registry import Registry

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
        """
        seen: set[str] = set()
        for found in self.importer.offered():
            seen.add(found.model)
            if not self.models or found.model in self.models:
                yield found
        missing = [model for model in self.models if model not in seen]
        if missing:
            raise NotFound(
                f"{self.place} has no model {missing[0]!r}",
                code="import-model-missing",
                hint=f"it has {', '.join(sorted(seen)[:10]) or 'none'}",
            )


def importer_of(source: str, *, kind: str | None = None, model: str | None = None, commits: bool = False) -> Importer:
    """The importer for what a person named.

    Args:
        source: a database URI or a server's address (MLflow), or a folder.
        kind: one of ``KINDS``; told from the source when None.
        model: how the one model of a repository or folder is called there.
        commits: whether every commit of a repository is a version.

    Raises:
        InvalidInput: there is no such kind, or the source is of none (codes ``unknown-source``).
        NotFound: there is nothing there (code ``import-source-missing``).
    """
    kind = kind or told(source)
    folder = Path(source).expanduser()
    made: dict[str, Callable[[], Importer]] = {
        "mlflow": lambda: _mlflow(source),
        "huggingface-cache": lambda: HubCache(folder),
        "git": lambda: GitRepository(folder, model, commits),
        "dvc": lambda: DvcRepository(folder),
        "folder": lambda: CheckpointFolder(folder, model),
    }
    if kind not in made:
        raise InvalidInput(
            f"no such kind of source: {kind!r}", code="unknown-source", hint=f"one of {', '.join(KINDS)}"
        )
    return made[kind]()


def told(source: str) -> str:
    """What kind of place a source is.

    Raises:
        NotFound: there is nothing there (code ``import-source-missing``).
    """
    if "://" in source:
        return "mlflow"
    path = Path(source).expanduser()
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
        raise NotFound(f"nothing to import from at {source}", code="import-source-missing")
    if (path / ".dvc").is_dir():
        return "dvc"
    if (path / ".git").exists() or ((path / "objects").is_dir() and (path / "HEAD").is_file()):
        return "git"
    if is_model(path) or any(is_model(child) for child in path.iterdir()):
        return "huggingface-cache"
    if (path / "mlflow.db").is_file():
        return "mlflow"
    return "folder"


def import_from(
    registry: Registry,
    source: str,
    *,
    guard: Guard,
    plan: Plan,
    kind: str | None = None,
    models: tuple[str, ...] = (),
    commits: bool = False,
    progress: Progress = SILENT,
) -> Iterator[Imported]:
    """Import everything that a source holds.

    Args:
        registry: where to.
        source, kind, commits: as in ``importer_of``.
        guard: what to judge with.
        plan: how it is called here.
        models: names there to take; empty takes all.
        progress: hears about bytes.

    Raises:
        As ``importer_of`` and ``service.importing.run_import``.
    """
    importer = Chosen(importer_of(source, kind=kind, commits=commits), models)
    return run_import(registry, importer, guard=guard, plan=plan, progress=progress)


def _mlflow(source: str) -> Importer:
    if source.startswith(("http://", "https://")):
        return MlflowServer(source)
    path = Path(source).expanduser()
    if "://" not in source:
        file = path / "mlflow.db" if path.is_dir() else path
        return MlflowDatabase(f"sqlite:///{file.absolute()}")
    return MlflowDatabase(source)
