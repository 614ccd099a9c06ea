"""What an MLflow registry holds, whether its database or its folder was read, and how that is offered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from assay.errors import AssayError, BadFormat, NotFound
from assay.importers.local import Places, files_in
from assay.importers.mlflow_runs import details, numbers, params, rfc3339, stage_alias
from assay.ports.importers import Offered, Result, Unreadable

DELETED = "Deleted_Internal"
"""Stage of a version that was deleted; what was written of it stays."""
PROMPT = "mlflow.prompt.is_prompt"
"""Tag of a registered model that is a prompt, not a model."""
LOGGED = "models:/m-"
"""How the source of a version begins that was made from a logged model, since MLflow 3."""

_MAX_HOPS = 8
"""Versions that are copies of versions, followed."""

Row = Mapping[str, Any]
Texts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Runs:
    """Training runs and logged models, by their ids.

    Args:
        runs, logged: a row each, with the columns of MLflow's tables.
        metrics: the last value of each metric of a run.
        logged_metrics: rows of a logged model's metrics, oldest first.
        params, tags, logged_params: as they are written there.
    """

    runs: Mapping[str, Row] = field(default_factory=dict)
    params: Texts = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tags: Texts = field(default_factory=dict)
    logged: Mapping[str, Row] = field(default_factory=dict)
    logged_metrics: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    logged_params: Texts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Book:
    """The registry itself, by the names of its models.

    Args:
        names: of all models.
        versions: rows with the columns of MLflow's table, oldest first; without deleted ones.
        aliases, version_tags: by model and version.
        model_tags: by model.
        runs: what the versions were made in.
    """

    names: Sequence[str]
    versions: Mapping[str, Sequence[Row]]
    aliases: Mapping[tuple[str, int], Sequence[str]]
    model_tags: Texts
    version_tags: Mapping[tuple[str, int], Mapping[str, str]]
    runs: Runs

    def offered(self, places: Places) -> Iterator[Offered | Unreadable]:
        """Every version, per model from the oldest to the newest; prompts are left out."""
        for name in sorted(self.names):
            if self.model_tags.get(name, {}).get(PROMPT, "").lower() == "true":
                continue
            for version in self.versions.get(name, ()):
                try:
                    yield _offer(self, name, version, places)
                except AssayError as error:
                    yield Unreadable(name, str(version["version"]), error)


def wanted_runs(versions: Sequence[Row]) -> tuple[set[str], set[str]]:
    """Ids of the runs and of the logged models that versions were made in or from."""
    runs = {str(row["run_id"]) for row in versions if row.get("run_id")}
    sources = [str(row.get(column) or "") for row in versions for column in ("source", "storage_location")]
    runs |= {source.removeprefix("runs:/").partition("/")[0] for source in sources if source.startswith("runs:/")}
    return runs, {source.removeprefix("models:/") for source in sources if source.startswith(LOGGED)}


def in_order(versions: Sequence[Row], place: str) -> list[Row]:
    """Versions that were not deleted, by their numbers.

    Raises:
        BadFormat: one has no number (code ``not-mlflow``).
    """
    kept = [row for row in versions if row.get("current_stage") != DELETED]
    try:
        return sorted(kept, key=lambda row: int(row["version"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFormat(f"{place} holds a version without a number", code="not-mlflow") from error


def _offer(book: Book, name: str, version: Row, places: Places) -> Offered:
    number, runs = int(version["version"]), book.runs
    path = places.path(_location(book, version))
    run = str(version.get("run_id") or "")
    source = str(version.get("source") or "")
    model = source.removeprefix("models:/") if source.startswith(LOGGED) else ""
    tags = runs.tags.get(run, {})
    return Offered(
        model=name,
        label=str(number),
        created=rfc3339(version.get("creation_time")),
        actor=str(version["user_id"]) if version.get("user_id") else tags.get("mlflow.user"),
        params=params({**runs.logged_params.get(model, {}), **runs.params.get(run, {})}),
        metrics=runs.metrics.get(run, {}),
        results=_results(runs.logged_metrics.get(model, ())),
        run=f"mlflow://{run}" if run else None,
        run_details=details(runs.runs.get(run), tags, version.get("run_link")),
        note=str(version["description"]) if version.get("description") else None,
        tags={**book.model_tags.get(name, {}), **book.version_tags.get((name, number), {})},
        aliases=(*book.aliases.get((name, number), ()), *stage_alias(book.versions[name], version)),
        where=str(path),
        open=partial(files_in, path),
    )


def _location(book: Book, version: Row, hops: int = 0) -> str:
    """Where a version's files lie; follows what MLflow writes instead of a place.

    Raises:
        NotFound: the registry does not know (code ``location-missing``).
    """
    found = str(version.get("storage_location") or version.get("source") or "")
    if found.startswith("runs:/"):
        run, _, rest = found.removeprefix("runs:/").partition("/")
        if run in book.runs.runs:
            return f"{str(book.runs.runs[run].get('artifact_uri') or '').rstrip('/')}/{rest}"
    elif found.startswith("models:/"):
        name, _, number = found.removeprefix("models:/").partition("/")
        if name in book.runs.logged:
            return str(book.runs.logged[name].get("artifact_location") or "")
        copied = [row for row in book.versions.get(name, ()) if str(row["version"]) == number]
        if copied and hops < _MAX_HOPS:
            return _location(book, copied[0], hops + 1)
    elif found:
        return found
    raise NotFound(
        f"its source {found!r} names nothing that the registry knows",
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
