"""Evaluations: said of a version at any time, read back per metric and dataset, and compared across versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.errors import AssayError, InvalidInput
from assay.service.browse import aliases_of, stamp, version_json, versions_of
from assay.service.registry import Registry
from assay.spec.evaluation import (
    KIND,
    PUSHED,
    Evaluation,
    Measured,
    evaluation,
    latest,
    lower_is_better,
    read_evaluation,
)
from assay.spec.json import Json
from assay.spec.records import Referrer, Version
from assay.spec.statement import Statement, artifact_type_of

_TYPES = frozenset(map(artifact_type_of, (KIND, PUSHED)))
"""Artifact types of the statements that hold metrics: no other is read for them."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The outcome of ``evaluate``.

    Args:
        version: what was evaluated.
        evaluation: what is said of it now.
        new: False when the newest evaluation on that dataset said just this.
    """

    version: Version
    evaluation: Evaluation
    new: bool

    def to_json(self) -> dict[str, Json]:
        """As ``assay evaluate --json`` prints it."""
        said = self.evaluation
        return {
            "reference": self.version.reference,
            "digest": str(self.version.manifest),
            "metrics": dict(said.metrics),
            "dataset": said.dataset,
            "dataset_digest": None if said.dataset_digest is None else str(said.dataset_digest),
            "note": said.note,
            "run": said.run,
            "at": stamp(said.at),
            "new": self.new,
        }


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """What is comparable across versions: one metric on one dataset.

    Args:
        metric: its name.
        dataset: what it was measured on; empty for metrics given at push or on data nobody named.
        digest: identity of that data, where the versions hold several of one name; else empty.
    """

    metric: str
    dataset: str = ""
    digest: str = ""

    @property
    def label(self) -> str:
        """``auc``, ``auc@holdout`` or ``auc@holdout#1a2b3c``."""
        data = f"@{self.dataset}" if self.dataset else ""
        return f"{self.metric}{data}" + (f"#{self.digest.partition(':')[2][:6]}" if self.digest else "")


def evaluate(registry: Registry, version: Version, said: Evaluation) -> Evaluated:
    """Say of a version what was measured; earlier evaluations are kept, the latest counts.

    Saying again what the newest evaluation on that dataset says changes nothing.

    Raises:
        NotFound: the version's bytes were purged or removed.
        StorageError: the registry cannot be written.
    """
    manifest = registry.manifest(version)
    before = [one for one in evaluations(registry, version) if one.dataset == said.dataset]
    if before and before[-1].says == said.says:
        return Evaluated(version, before[-1], new=False)
    now = said.at.replace(microsecond=0)
    new = registry.attach(Statement(manifest.digest, KIND, said.predicate(), now), manifest)
    return Evaluated(version, said, new)


def give(
    registry: Registry,
    version: Version,
    metrics: Mapping[str, float],
    *,
    dataset: str | None = None,
    dataset_digest: str | None = None,
    note: str | None = None,
    run: str | None = None,
) -> Evaluated:
    """``evaluate`` with what a person gives, said now.

    Raises:
        InvalidInput: it has not the form of an evaluation (codes ``bad-metric``, ``bad-dataset``, ``invalid-digest``).
        As ``evaluate``.
    """
    now = datetime.now(UTC)
    said = evaluation(metrics, at=now, dataset=dataset, dataset_digest=dataset_digest, note=note, run=run)
    return evaluate(registry, version, said)


def evaluations(registry: Registry, version: Version) -> list[Evaluation]:
    """Every evaluation of a version with the metrics given at push, oldest first.

    Raises:
        NotFound: a statement's bytes are missing.
        IntegrityError: a statement is damaged.
    """
    found = (read_evaluation(registry.statement(one)) for one in _referring(registry, version))
    return sorted((one for one in found if one is not None), key=lambda one: one.at)


def recorded(registry: Registry, version: Version) -> dict[tuple[str, str | None], Measured]:
    """The number that counts per metric and dataset, as ``assay.spec.evaluation.measured`` gives it.

    Raises:
        As ``evaluations``.
    """
    return latest(evaluations(registry, version))


def table(registry: Registry, name: str, *, lower: Collection[str] = (), limit: int | None = None) -> dict[str, Json]:
    """Every version of a model with its metrics: one column per metric and dataset, comparable down the versions.

    The best number of a column is looked for among the versions that may be used: none that was yanked, removed or
    purged is the best one. A damaged statement does not hide the others.

    Args:
        registry: where.
        name: the model.
        lower: metrics of which less is better although their names do not say so.
        limit: the newest versions alone.

    Returns:
        As ``assay show NAME --metrics --json`` prints it: ``docs/reference/json.md``.

    Raises:
        NotFound: there is no such model (code ``model-not-found``).
    """
    versions = versions_of(registry, name, limit=limit)
    aliases = aliases_of(registry, name)
    read = readings(registry, versions)
    rows: list[dict[str, Json]] = []
    for version in versions:
        row = version_json(version, aliases.get(version.number, []))
        damaged = read.damaged.get(version.number)
        rows.append({**row, **({"damaged": list(damaged)} if damaged else {})})
    cells = [_cells(column, versions, read.values, lower) for column in read.columns]
    for at, row in enumerate(rows):
        row["values"] = [column[at] for column in cells]
    return {"name": name, "columns": [_column_json(column, lower) for column in read.columns], "versions": list(rows)}


@dataclass(frozen=True, slots=True)
class Readings:
    """The numbers that several versions of a model hold.

    Args:
        columns: what was measured of any of them, by metric and dataset.
        values: per column, version number to value.
        damaged: version number to why statements of it could not be read.
    """

    columns: tuple[Column, ...]
    values: Mapping[Column, Mapping[int, float]]
    damaged: Mapping[int, Sequence[str]]

    def column(self, metric: str, dataset: str | None = None) -> Column:
        """The column that a person means.

        Args:
            metric: its name.
            dataset: name or digest of a dataset; None for the metrics that name none, else for the only dataset.

        Raises:
            InvalidInput: nothing was measured so (code ``metric-not-recorded``), or it was on several datasets (code
                ``ambiguous-dataset``).
        """
        found = [column for column in self.columns if column.metric == metric]
        if dataset is not None:
            found = [column for column in found if dataset in (column.dataset, column.digest)]
        elif any(not column.dataset for column in found):
            found = [column for column in found if not column.dataset]
        if len(found) == 1:
            return found[0]
        if found:
            named = [f"{one.dataset} {one.digest}".strip() for one in found]
            raise InvalidInput(
                f"{metric} was measured on several datasets: {', '.join(named)}",
                code="ambiguous-dataset",
                hint="say which with --dataset" if dataset is None else "name it by its digest",
            )
        known = ", ".join(column.label for column in self.columns)
        on = f" on {dataset}" if dataset is not None else ""
        raise InvalidInput(
            f"no version here has a recorded {metric}{on}",
            code="metric-not-recorded",
            hint=f"there is {known}" if known else "assay evaluate REF --metric NAME=NUMBER records one",
        )


def readings(registry: Registry, versions: Sequence[Version]) -> Readings:
    """The numbers that count of each of *versions*; a damaged statement does not hide the others."""
    found: dict[int, list[Measured]] = {}
    damaged: dict[int, list[str]] = {}
    for version in versions:
        found[version.number], problems = _reading(registry, version)
        if problems:
            damaged[version.number] = problems
    digests: dict[str, set[str]] = {}
    for one in (one for several in found.values() for one in several):
        if one.dataset is not None and one.dataset_digest is not None:
            digests.setdefault(one.dataset, set()).add(str(one.dataset_digest))
    values: dict[Column, dict[int, float]] = {}
    for number, several in found.items():
        for one in several:
            apart = len(digests.get(one.dataset or "", ())) > 1
            digest = str(one.dataset_digest) if apart and one.dataset_digest is not None else ""
            values.setdefault(Column(one.metric, one.dataset or "", digest), {})[number] = one.value
    return Readings(tuple(sorted(values)), values, damaged)


def _cells(
    column: Column, versions: Sequence[Version], values: Mapping[Column, Mapping[int, float]], lower: Collection[str]
) -> list[Json]:
    """A column down the versions, newest first: value, difference to the next older value, whether it is the best."""
    held = values[column]
    usable = [held[one.number] for one in versions if one.number in held and not one.gone and one.yanked is None]
    best = None if not usable else min(usable) if lower_is_better(column.metric, lower) else max(usable)
    cells: list[Json] = []
    before: float | None = None
    for version in reversed(versions):
        value = held.get(version.number)
        if value is None:
            cells.append(None)
            continue
        fit = not version.gone and version.yanked is None
        delta = None if before is None else value - before
        cells.append({"value": value, "delta": delta, "best": fit and value == best})
        before = value
    return cells[::-1]


def _column_json(column: Column, lower: Collection[str]) -> dict[str, Json]:
    return {
        "label": column.label,
        "metric": column.metric,
        "dataset": column.dataset or None,
        "dataset_digest": column.digest or None,
        "lower_is_better": lower_is_better(column.metric, lower),
    }


def _referring(registry: Registry, version: Version) -> list[Referrer]:
    return [one for one in registry.referrers(version.manifest) if one.artifact_type in _TYPES]


def _reading(registry: Registry, version: Version) -> tuple[list[Measured], list[str]]:
    """What counts of a version, and why the rest could not be read."""
    found, damaged = [], []
    for referrer in _referring(registry, version):
        try:
            said = read_evaluation(registry.statement(referrer))
        except AssayError as error:
            damaged.append(error.message)
            continue
        if said is not None:
            found.append(said)
    return list(latest(found).values()), damaged
