"""Reading an MLflow registry from its database.

The tables are those of MLflow's own SQL store (``mlflow/store/model_registry/dbmodels/models.py`` and
``mlflow/store/tracking/dbmodels/models.py``, 1.x to 3.x); they are read and never written, whatever release made them,
and MLflow need not be installed. Columns and tables that a release did not have yet are done without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, MetaData, create_engine, select
from sqlalchemy.exc import SQLAlchemyError

from assay.errors import BadFormat, MissingDependency, NotFound
from assay.importers.local import Places, without_credentials
from assay.importers.mlflow_book import Book, Row, Runs, in_order, wanted_runs
from assay.importers.mlflow_runs import TAGS, numbers
from assay.ports.importers import Offered, Unreadable

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
_MAX_IDS = 500
"""Ids in one question; SQLite takes 999 values."""
_MAX_VALUE = 64 << 20
"""Bytes in one value of a SQLite database."""


class MlflowDatabase:
    """An MLflow registry behind a database URI.

    Args:
        uri: as SQLAlchemy and MLflow write it (``sqlite:////data/mlflow.db``, ``postgresql://…``).
        artifacts: as ``Places.folders``.
    """

    system = "mlflow"

    def __init__(self, uri: str, artifacts: Mapping[str, Path] | None = None) -> None:
        self._uri = uri
        self.place = without_credentials(uri)
        parts = urlsplit(uri)
        # As SQLAlchemy reads it: sqlite:///relative, sqlite:////absolute.
        self._file = Path(unquote(parts.path.removeprefix("/"))) if parts.scheme.startswith("sqlite") else None
        if self._file is not None:
            self.place = f"sqlite:///{self._file.absolute()}"
        self._places = Places(self._file.absolute().parent if self._file is not None else None, artifacts or {})

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
                if self._file is not None:
                    # One state of it, while others write.
                    connection.exec_driver_sql("BEGIN")
                book = _read(connection, self.place)
        except SQLAlchemyError as error:
            raise NotFound(
                f"cannot read the MLflow database {self.place}: {str(error).splitlines()[0][:200]}",
                code="import-source-missing",
                hint="check the URI and that the database can be reached from here",
            ) from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadFormat(
                f"{self.place} is no MLflow registry as any release made it: {error!r:.200}", code="not-mlflow"
            ) from error
        finally:
            engine.dispose()
        yield from book.offered(self._places)


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
            return create_engine("sqlite://", creator=partial(_connect, address))
        return create_engine(uri)
    except SQLAlchemyError as error:
        raise BadFormat(f"not a database URI: {without_credentials(uri)!r}", code="not-mlflow") from error
    except ImportError as error:
        raise MissingDependency(
            f"the driver for {urlsplit(uri).scheme} is not installed: {error.name}",
            hint=f"pip install {error.name}",
        ) from error


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True)
    # The database may be somebody else's: its schema must neither call what is not harmless nor make huge values.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


class _Tables:
    """The tables that a database has of those that are read."""

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection = connection
        tables = MetaData()
        tables.reflect(connection, only=lambda name, _: name in _TABLES, resolve_fks=False)
        self._tables = tables.tables
        missing = [name for name in _NEEDED if name not in self._tables]
        if missing:
            raise BadFormat(
                f"{place} is no MLflow registry: it has no table {missing[0]}",
                code="not-mlflow",
                hint="name the database that the MLflow server was started with (--backend-store-uri)",
            )

    def rows(self, name: str) -> list[Row]:
        """Every row; none where there is no such table."""
        table = self._tables.get(name)
        if table is None:
            return []
        # SQLAlchemy's public name for a row's columns and values begins with an underscore.
        return [dict(row._mapping) for row in self._connection.execute(select(table))]  # noqa: SLF001

    def of(self, name: str, column: str, ids: Iterable[str], keys: Sequence[str] = ()) -> list[Row]:
        """The rows of some runs or logged models: there may be millions that no version was made in.

        Args:
            name: the table.
            column: holds the ids.
            ids: whose rows.
            keys: only rows with one of these in ``key``; empty takes all.
        """
        table = self._tables.get(name)
        if table is None:
            return []
        found: list[Row] = []
        for some in _portions(sorted(ids)):
            query = select(table).where(table.c[column].in_(some))
            if keys:
                query = query.where(table.c["key"].in_(keys))
            found += [dict(row._mapping) for row in self._connection.execute(query)]  # noqa: SLF001
        return found


def _read(connection: Connection, place: str) -> Book:
    tables = _Tables(connection, place)
    versions = in_order([_named(row) for row in tables.rows("model_versions")], place)
    aliases = _grouped_by_version(map(_named, tables.rows("registered_model_aliases")))
    version_tags = _grouped_by_version(map(_named, tables.rows("model_version_tags")))
    return Book(
        names=[str(_named(row)["name"]) for row in tables.rows("registered_models")],
        versions=_grouped(versions, "name"),
        aliases={key: [str(row["alias"]) for row in found] for key, found in aliases.items()},
        model_tags=_pairs(map(_named, tables.rows("registered_model_tags")), "name"),
        version_tags={
            key: {str(row["key"]): str(row["value"]) for row in found} for key, found in version_tags.items()
        },
        runs=_read_runs(tables, *wanted_runs(versions)),
    )


def _read_runs(tables: _Tables, runs: set[str], logged: set[str]) -> Runs:
    metrics = _grouped(tables.of("latest_metrics", "run_uuid", runs), "run_uuid")
    measured = tables.of("logged_model_metrics", "model_id", logged)
    return Runs(
        runs={str(row["run_uuid"]): row for row in tables.of("runs", "run_uuid", runs)},
        params=_pairs(tables.of("params", "run_uuid", runs), "run_uuid"),
        metrics={
            run: numbers((row["key"], row["value"], row.get("is_nan")) for row in found)
            for run, found in metrics.items()
        },
        tags=_pairs(tables.of("tags", "run_uuid", runs, TAGS), "run_uuid"),
        logged={str(row["model_id"]): row for row in tables.of("logged_models", "model_id", logged)},
        logged_metrics=_grouped(sorted(measured, key=lambda row: row["metric_timestamp_ms"] or 0), "model_id"),
        logged_params=_pairs(
            tables.of("logged_model_params", "model_id", logged), "model_id", "param_key", "param_value"
        ),
    )


def _named(row: Row) -> Row:
    """A row of the registry's tables under the name that is the model's own: workspaces each have their names."""
    workspace = str(row.get("workspace") or "default")
    return row if workspace == "default" else {**row, "name": f"{workspace}/{row['name']}"}


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _MAX_IDS):
        yield ids[start : start + _MAX_IDS]


def _grouped(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(row)
    return found


def _grouped_by_version(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row["name"]), int(row["version"])), []).append(row)
    return found


def _pairs(rows: Iterable[Row], owner: str, key: str = "key", value: str = "value") -> dict[str, dict[str, str]]:
    return {name: {str(row[key]): str(row[value]) for row in found} for name, found in _grouped(rows, owner).items()}
