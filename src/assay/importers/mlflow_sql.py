"""Reading an MLflow registry from its database.

The tables are those of MLflow's own SQL store (``mlflow/store/model_registry/dbmodels/models.py`` and
``mlflow/store/tracking/dbmodels/models.py``, 1.x to 3.x); they are read and never written, whatever release made them,
and MLflow need not be installed. Columns and tables that a release did not have yet are done without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, select
from sqlalchemy.exc import SQLAlchemyError

from assay.errors import AssayError, BadFormat, MissingDependency, NotFound
from assay.importers.local import files_in, local_path, without_credentials
from assay.importers.mlflow_runs import details, numbers, params, rfc3339, stage_alias
from assay.ports.importers import Offered, Result, Unreadable

_TABLES = (
    "registered_models",
    "model_versions",
    "registered_model_aliases",
    "registered_model_tags",
    "model_version_tags",
    "runs",
    "params",
    "latest_metrics",
    "tags",
    "logged_models",
    "logged_model_metrics",
    "logged_model_params",
)
_NEEDED = ("registered_models", "model_versions")
DELETED = "Deleted_Internal"
"""Stage of a version that was deleted; its row stays."""
PROMPT = "mlflow.prompt.is_prompt"
"""Tag of a registered model that is a prompt, not a model."""

_MAX_HOPS = 8
"""Versions that are copies of versions, followed."""

Row = Mapping[str, Any]


class MlflowDatabase:
    """An MLflow registry behind a database URI.

    Args:
        uri: as SQLAlchemy and MLflow write it (``sqlite:////data/mlflow.db``, ``postgresql://…``).
    """

    system = "mlflow"

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.place = without_credentials(uri)
        parts = urlsplit(uri)
        # As SQLAlchemy reads it: sqlite:///relative, sqlite:////absolute.
        self._file = Path(unquote(parts.path.removeprefix("/"))) if parts.scheme.startswith("sqlite") else None

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Every version that was not deleted, per model from the oldest to the newest; prompts are left out.

        Raises:
            NotFound: there is no such database (code ``import-source-missing``).
            BadFormat: it is no MLflow database (code ``not-mlflow``).
            MissingDependency: its driver is not installed.
        """
        if self._file is not None:
            _check_sqlite(self._file)
        engine = _engine(self._uri)
        try:
            with engine.connect() as connection:
                book = _read(connection, self.place)
        except SQLAlchemyError as error:
            raise NotFound(
                f"cannot read the MLflow database {self.place}: {str(error).splitlines()[0][:200]}",
                code="import-source-missing",
                hint="check the URI and that the database can be reached from here",
            ) from error
        finally:
            engine.dispose()
        under = self._file.absolute().parent if self._file is not None else None
        for model in sorted(book.models, key=lambda row: str(row["name"])):
            name = str(model["name"])
            if book.model_tags.get(name, {}).get(PROMPT, "").lower() == "true":
                continue
            for version in book.versions.get(name, ()):
                yield _offer(book, version, under)


@dataclass(frozen=True, slots=True)
class _Book:
    """Every row that is needed, by what it is looked up with."""

    models: Sequence[Row]
    versions: Mapping[str, Sequence[Row]]
    aliases: Mapping[tuple[str, int], Sequence[str]]
    model_tags: Mapping[str, Mapping[str, str]]
    version_tags: Mapping[tuple[str, int], Mapping[str, str]]
    runs: Mapping[str, Row]
    run_params: Mapping[str, Mapping[str, str]]
    run_metrics: Mapping[str, Mapping[str, float]]
    run_tags: Mapping[str, Mapping[str, str]]
    logged: Mapping[str, Row]
    logged_metrics: Mapping[str, Sequence[Row]]
    logged_params: Mapping[str, Mapping[str, str]]


def _check_sqlite(file: Path) -> None:
    # SQLite would make an empty file where there is none.
    if not file.is_file():
        raise NotFound(
            f"no MLflow database at {file.absolute()}",
            code="import-source-missing",
            hint="sqlite:///relative.db or sqlite:////absolute/path.db",
        )
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            raise BadFormat(f"{file} is no SQLite database: {error}", code="not-mlflow") from error


def _engine(uri: str) -> Engine:
    try:
        if uri.startswith("sqlite"):
            path = unquote(urlsplit(uri).path.removeprefix("/"))
            # Read-only: an importer must not so much as recover a journal in somebody else's database.
            address = f"{Path(path).absolute().as_uri()}?mode=ro"
            return create_engine("sqlite://", creator=partial(sqlite3.connect, address, uri=True))
        return create_engine(uri)
    except SQLAlchemyError as error:
        raise BadFormat(f"not a database URI: {without_credentials(uri)!r}", code="not-mlflow") from error
    except ImportError as error:
        raise MissingDependency(
            f"the driver for {urlsplit(uri).scheme} is not installed: {error.name}",
            hint=f"pip install {error.name}",
        ) from error


def _read(connection: Connection, place: str) -> _Book:
    tables = MetaData()
    tables.reflect(connection, only=lambda name, _: name in _TABLES, resolve_fks=False)
    missing = [name for name in _NEEDED if name not in tables.tables]
    if missing:
        raise BadFormat(
            f"{place} is no MLflow registry: it has no table {missing[0]}",
            code="not-mlflow",
            hint="name the database that the MLflow server was started with (--backend-store-uri)",
        )

    def rows(name: str) -> list[Row]:
        table = tables.tables.get(name)
        return _rows(connection, table) if table is not None else []

    versions = sorted(
        (row for row in rows("model_versions") if row.get("current_stage") != DELETED), key=lambda row: row["version"]
    )
    return _Book(
        models=rows("registered_models"),
        versions=_grouped(versions, "name"),
        aliases={
            key: [str(row["alias"]) for row in found]
            for key, found in _grouped_by_version(rows("registered_model_aliases")).items()
        },
        model_tags=_pairs(rows("registered_model_tags"), "name", "key", "value"),
        version_tags={
            key: {str(row["key"]): str(row["value"]) for row in found}
            for key, found in _grouped_by_version(rows("model_version_tags")).items()
        },
        runs={row["run_uuid"]: row for row in rows("runs")},
        run_params=_pairs(rows("params"), "run_uuid", "key", "value"),
        run_metrics={
            run: numbers((row["key"], row["value"], row.get("is_nan")) for row in found)
            for run, found in _grouped(rows("latest_metrics"), "run_uuid").items()
        },
        run_tags=_pairs(rows("tags"), "run_uuid", "key", "value"),
        logged={row["model_id"]: row for row in rows("logged_models")},
        logged_metrics=_grouped(
            sorted(rows("logged_model_metrics"), key=lambda row: row["metric_timestamp_ms"]), "model_id"
        ),
        logged_params=_pairs(rows("logged_model_params"), "model_id", "param_key", "param_value"),
    )


def _rows(connection: Connection, table: Table) -> list[Row]:
    return [dict(row._mapping) for row in connection.execute(select(table))]  # noqa: SLF001 - SQLAlchemy's public name


def _grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(row)
    return found


def _grouped_by_version(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row["name"]), int(row["version"])), []).append(row)
    return found


def _pairs(rows: Sequence[Row], owner: str, key: str, value: str) -> dict[str, dict[str, str]]:
    return {name: {str(row[key]): str(row[value]) for row in found} for name, found in _grouped(rows, owner).items()}


def _offer(book: _Book, version: Row, under: Path | None) -> Offered | Unreadable:
    name, number = str(version["name"]), int(version["version"])
    try:
        location = _location(book, version)
        path = local_path(location, under=under)
    except AssayError as error:
        return Unreadable(name, str(number), error)
    run = str(version["run_id"]) if version.get("run_id") else None
    model_id = _model_id(version)
    logged = book.logged_metrics.get(model_id or "", ())
    return Offered(
        model=name,
        label=str(number),
        created=rfc3339(version.get("creation_time")),
        actor=str(version["user_id"])
        if version.get("user_id")
        else book.run_tags.get(run or "", {}).get("mlflow.user"),
        params=params({**book.logged_params.get(model_id or "", {}), **book.run_params.get(run or "", {})}),
        metrics=book.run_metrics.get(run or "", {}),
        results=_results(logged),
        run=f"mlflow://{run}" if run else None,
        run_details=details(book.runs.get(run or ""), book.run_tags.get(run or "", {}), version.get("run_link")),
        note=str(version["description"]) if version.get("description") else None,
        tags={**book.model_tags.get(name, {}), **book.version_tags.get((name, number), {})},
        aliases=(*book.aliases.get((name, number), ()), *stage_alias(book.versions[name], version)),
        where=str(path),
        open=partial(files_in, path),
    )


def _model_id(version: Row) -> str | None:
    """The logged model behind a version; since 3.0 a version's source is ``models:/m-…``."""
    source = str(version.get("source") or "")
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def _location(book: _Book, version: Row, hops: int = 0) -> str:
    """Where a version's files lie; follows what MLflow writes instead of a place.

    Raises:
        NotFound: the database does not know (code ``location-missing``).
    """
    found = str(version.get("storage_location") or version.get("source") or "")
    if found.startswith("runs:/"):
        run, _, rest = found.removeprefix("runs:/").partition("/")
        if run in book.runs:
            return f"{str(book.runs[run]['artifact_uri']).rstrip('/')}/{rest}"
    elif found.startswith("models:/"):
        name, _, number = found.removeprefix("models:/").partition("/")
        if name in book.logged:
            return str(book.logged[name]["artifact_location"])
        copied = [row for row in book.versions.get(name, ()) if str(row["version"]) == number]
        if copied and hops < _MAX_HOPS:
            return _location(book, copied[0], hops + 1)
    elif found:
        return found
    raise NotFound(
        f"its source {found!r} names nothing that the database knows",
        code="location-missing",
        hint="the run, logged model or version it was made from was deleted there",
    )


def _results(rows: Sequence[Row]) -> tuple[Result, ...]:
    """Metrics measured on a dataset, one result per dataset; the newest value of each metric counts."""
    found: dict[tuple[str, str], list[tuple[str, Any, Any]]] = {}
    for row in rows:
        if row.get("dataset_name"):
            key = (str(row["dataset_name"]), str(row.get("dataset_digest") or ""))
            found.setdefault(key, []).append((row["metric_name"], row["metric_value"], False))
    return tuple(
        Result(values, dataset, digest or None)
        for (dataset, digest), items in found.items()
        if (values := numbers(items))
    )
