"""Reading an MLflow registry that is kept in a folder (``mlruns``), as MLflow did by default before 3.7.

Layout: ``mlflow/store/model_registry/file_store.py`` and ``mlflow/store/tracking/file_store.py``, 1.x to 3.x.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.errors import BadFormat, NotFound
from assay.importers.documents import mapping
from assay.importers.local import Places, small_file
from assay.importers.mlflow_book import Book, Row, Runs, in_order, wanted_runs
from assay.importers.mlflow_runs import TAGS, numbers
from assay.ports.importers import Offered, Unreadable

_META = "meta.yaml"
_MODELS = "models"
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_MAX_META = 4 << 20
_MAX_TEXT = 64 << 10
_MAX_VALUES = 100_000
"""Parameters, tags or metrics of one run, and bytes that are read of the end of a metric's history."""
_WITH_DATASET = (5, 6)
"""Words in a line of a metric's history that names a dataset."""
_STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


class MlflowFiles:
    """An MLflow registry in a folder.

    Args:
        folder: the store itself, or the folder that holds it as ``mlruns``.
        artifacts: as ``Places.folders``.
    """

    system = "mlflow"

    def __init__(self, folder: Path, artifacts: Mapping[str, Path] | None = None) -> None:
        self._store = (folder if is_store(folder) else folder / "mlruns").absolute()
        self.place = str(self._store)
        self._places = Places(self._store.parent, artifacts or {})

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Every version that was not deleted, per model from the oldest to the newest; prompts are left out.

        Raises:
            NotFound: it registers no models (code ``import-source-missing``).
            BadFormat: a description there is no YAML.
        """
        models = {meta.parent: _described(meta) for meta in sorted((self._store / _MODELS).glob(f"*/{_META}"))}
        if not models:
            raise NotFound(
                f"no models are registered in {self._store}",
                code="import-source-missing",
                hint="runs that were never registered can be pushed: assay push FOLDER/artifacts/model NAME",
            )
        names = {folder: str(meta.get("name") or folder.name) for folder, meta in models.items()}
        versions = {name: in_order(list(_versions(folder)), self.place) for folder, name in names.items()}
        runs, logged = wanted_runs([row for rows in versions.values() for row in rows])
        yield from Book(
            names=list(names.values()),
            versions=versions,
            aliases=_aliases(names),
            model_tags={name: _texts(folder / "tags") for folder, name in names.items()},
            version_tags={(name, int(row["version"])): row["tags"] for name in versions for row in versions[name]},
            runs=_read_runs(self._store, runs, logged),
        ).offered(self._places)


def is_store(folder: Path) -> bool:
    """Whether a folder is such a registry."""
    return any(small_file(meta, _MAX_META) is not None for meta in (folder / _MODELS).glob(f"*/{_META}"))


def _described(meta: Path) -> dict[str, Any]:
    data = small_file(meta, _MAX_META)
    if data is None:
        raise BadFormat(f"{meta} is not there, or no file of at most {_MAX_META:,} bytes", code="not-mlflow")
    return mapping(data, str(meta))


def _versions(model: Path) -> Iterator[dict[str, Any]]:
    """A row per version, as a database has it."""
    for meta in model.glob(f"version-*/{_META}"):
        body = _described(meta)
        yield {
            **body,
            "version": str(body.get("version") or meta.parent.name.removeprefix("version-")),
            "creation_time": body.get("creation_timestamp"),
            "tags": _texts(meta.parent / "tags"),
        }


def _aliases(names: Mapping[Path, str]) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for folder, name in names.items():
        for alias, version in _texts(folder / "aliases").items():
            if version.strip().isdigit():
                found.setdefault((name, int(version)), []).append(alias)
    return found


def _read_runs(store: Path, wanted: Iterable[str], logged: Iterable[str]) -> Runs:
    folders = {run: folder for run in sorted(wanted) if (folder := _found(store, run)) is not None}
    models = {model: folder for model in sorted(logged) if (folder := _found(store, f"*/models/{model}")) is not None}
    return Runs(
        runs={run: _run(folder) for run, folder in folders.items()},
        params={run: _texts(folder / "params") for run, folder in folders.items()},
        metrics={
            run: numbers((row["metric_name"], row["metric_value"], False) for row in _measured(folder / "metrics"))
            for run, folder in folders.items()
        },
        tags={
            run: {key: value for key, value in _texts(folder / "tags").items() if key in TAGS}
            for run, folder in folders.items()
        },
        logged={model: _described(folder / _META) for model, folder in models.items()},
        logged_metrics={model: list(_measured(folder / "metrics")) for model, folder in models.items()},
        logged_params={model: _texts(folder / "params") for model, folder in models.items()},
    )


def _found(store: Path, pattern: str) -> Path | None:
    """The folder of a run or logged model in any experiment."""
    if not _ID.fullmatch(pattern.rpartition("/")[2]):
        return None
    pattern = pattern if "/" in pattern else f"*/{pattern}"
    return next((meta.parent for meta in sorted(store.glob(f"{pattern}/{_META}"))), None)


def _run(folder: Path) -> Row:
    body = _described(folder / _META)
    status: Any = body.get("status")
    return {**body, "name": body.get("run_name"), "status": _STATES.get(status, status)}


def _texts(folder: Path) -> dict[str, str]:
    """Values that lie in a file each, under their names; a name with slashes lies deeper."""
    found: dict[str, str] = {}
    for name, file in _files(folder):
        data = small_file(file, _MAX_TEXT)
        if data is not None:
            found[name] = data.decode("utf-8", "replace").rstrip("\r\n")
    return found


def _measured(folder: Path) -> Iterator[dict[str, Any]]:
    """The last value of each metric, and of a metric on each dataset.

    A line is ``time value step [dataset digest]``; the run comes before the dataset where it is a logged model's.
    """
    for name, file in _files(folder):
        newest: dict[tuple[str, ...], str] = {}
        for line in _end(file):
            words = line.split()
            if len(words) >= 2:
                newest[tuple(words[-2:] if len(words) in _WITH_DATASET else ())] = words[1]
        for dataset, value in newest.items():
            row: dict[str, Any] = {"metric_name": name, "metric_value": value}
            if dataset:
                row |= {"dataset_name": dataset[0], "dataset_digest": dataset[1]}
            yield row


def _end(file: Path) -> list[str]:
    """The last lines of a file that may be long."""
    with file.open("rb") as stream:
        start = max(0, stream.seek(0, 2) - _MAX_VALUES)
        stream.seek(start)
        lines = stream.read(_MAX_VALUES).decode("utf-8", "replace").splitlines()
    return lines[1:] if start else lines


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Plain files below a folder with their names; links are not followed."""
    for number, file in enumerate(sorted(folder.rglob("*"))):
        if number >= _MAX_VALUES:
            raise BadFormat(f"{folder} holds more than {_MAX_VALUES:,} files", code="not-mlflow")
        if file.is_file() and not file.is_symlink():
            yield file.relative_to(folder).as_posix(), file
