"""Evaluations: what was measured of an artifact, on which data, and which of two numbers is the better one.

An evaluation is a statement of kind ``evaluation`` that anybody may add at any time; metrics given at push are the
statement ``metrics``, and count as measured on no named dataset. Written format: ``docs/spec/statements.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.statement import Statement

KIND = "evaluation"
PUSHED = "metrics"
"""Kind of statement that holds the metrics given at push."""

_MAX_NAME = 200
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LOWER = frozenset(
    """bpb brier cer crossentropy deviance distance divergence ece eer energy entropy err error errors fid fnr fpr
    kld latency loss losses logloss mae mape mase memory mse msle nll perplexity ppl rmse rmsle rss smape
    ter time wer""".split()
)
"""Words that name what is better when there is less of it."""
_ENDINGS = ("loss", "error", "entropy", "perplexity", "latency", "rmse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured of one artifact, at one time, on one dataset.

    Args:
        metrics: name to number, finite.
        dataset: the name of what it was measured on; None for metrics given at push or on data nobody named.
        dataset_digest: identity of that data.
        note: free text.
        run: URI or id of the run that measured it.
        at: when it was said, UTC.
    """

    metrics: Mapping[str, float]
    dataset: str | None = None
    dataset_digest: Digest | None = None
    note: str | None = None
    run: str | None = None
    at: datetime

    def predicate(self) -> dict[str, Json]:
        """The predicate of its statement."""
        body: dict[str, Json] = {"metrics": dict(self.metrics), "at": _stamp(self.at)}
        if self.dataset is not None:
            body["dataset"] = self.dataset
        if self.dataset_digest is not None:
            body["dataset_digest"] = str(self.dataset_digest)
        if self.note is not None:
            body["note"] = self.note
        if self.run is not None:
            body["run"] = self.run
        return body

    @property
    def says(self) -> tuple[object, ...]:
        """Everything it says but when: two evaluations that say the same may be one."""
        return (dict(self.metrics), self.dataset, self.dataset_digest, self.note, self.run)


@dataclass(frozen=True, slots=True)
class Measured:
    """One number.

    Args:
        metric: its name.
        value: finite.
        dataset: what it was measured on; None where nobody said.
        dataset_digest: identity of that data, where it is known.
        at: when it was said, UTC.
    """

    metric: str
    value: float
    dataset: str | None
    dataset_digest: Digest | None
    at: datetime


def evaluation(
    metrics: Mapping[str, float],
    *,
    at: datetime,
    dataset: str | None = None,
    dataset_digest: str | None = None,
    note: str | None = None,
    run: str | None = None,
) -> Evaluation:
    """An evaluation as a person gives it, when it has the form of one.

    Raises:
        InvalidInput: there is no metric, or one has no name or is not a finite number (code ``bad-metric``); the
            dataset cannot be named so, or a digest is given for none (``bad-dataset``); the digest is not one.
    """
    if not metrics:
        raise InvalidInput("an evaluation without a metric says nothing", code="bad-metric", hint="--metric auc=0.93")
    for name, value in metrics.items():
        _check_name("metric", name, "bad-metric")
        if isinstance(value, bool) or not math.isfinite(value):
            raise InvalidInput(f"metric {name!r} is not a finite number: {value}", code="bad-metric")
    if dataset is not None:
        _check_name("dataset", dataset, "bad-dataset")
    if dataset_digest is not None and dataset is None:
        raise InvalidInput(
            "a digest of a dataset without its name: metrics are compared by the name",
            code="bad-dataset",
            hint="add --dataset NAME",
        )
    return Evaluation(
        metrics={name: float(value) for name, value in metrics.items()},
        dataset=dataset,
        dataset_digest=None if dataset_digest is None else Digest.parse(dataset_digest),
        note=(note or "").strip() or None,
        run=(run or "").strip() or None,
        at=at.astimezone(UTC),
    )


def read_evaluation(statement: Statement) -> Evaluation | None:
    """What a statement of kind ``evaluation`` or ``metrics`` says; None for others and for those of no known form.

    Statements may come from anywhere: a metric that is not a finite number is left out, and so is an evaluation whose
    dataset is not named by text.
    """
    predicate = statement.predicate
    values = predicate.get("metrics")
    if statement.kind not in (KIND, PUSHED) or not isinstance(values, Mapping):
        return None
    metrics = {str(name): number for name, value in values.items() if (number := finite(value)) is not None}
    if statement.kind == PUSHED:
        return Evaluation(metrics=metrics, at=statement.created)
    dataset = predicate.get("dataset")
    if dataset is not None and not isinstance(dataset, str):
        return None
    return Evaluation(
        metrics=metrics,
        dataset=dataset,
        dataset_digest=_digest(predicate.get("dataset_digest")),
        note=_text(predicate.get("note")),
        run=_text(predicate.get("run")),
        at=said_at(predicate.get("at"), statement.created),
    )


def measured(statements: Iterable[Statement]) -> dict[tuple[str, str | None], Measured]:
    """The number that counts per metric and dataset: the latest one.

    Args:
        statements: what is said about one artifact, oldest first; other kinds are passed over.

    Returns:
        (metric, dataset) to the number; the dataset is None for metrics given at push.
    """
    return latest([found for one in statements if (found := read_evaluation(one)) is not None])


def latest(evaluations: Sequence[Evaluation]) -> dict[tuple[str, str | None], Measured]:
    """As ``measured``, of evaluations in the order in which they were attached."""
    found: dict[tuple[str, str | None], Measured] = {}
    for one in sorted(evaluations, key=lambda one: one.at):  # stable: of one moment, the one attached last
        for metric, value in one.metrics.items():
            found[metric, one.dataset] = Measured(metric, value, one.dataset, one.dataset_digest, one.at)
    return found


def finite(value: Json) -> float | None:
    """A JSON value as a number; None when it is none or is not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        return None
    return number if math.isfinite(number) else None


def lower_is_better(metric: str, said: Collection[str] = ()) -> bool:
    """Whether less of a metric is better, as its name tells; *said* names those for which a person says so.

    >>> lower_is_better("val_loss"), lower_is_better("AUC"), lower_is_better("neg_mean_squared_error")
    (True, False, False)
    """
    if metric in said:
        return True
    words = [word.lower() for word in _WORD.findall(metric)]
    if words[:1] in (["neg"], ["negative"]):  # scikit-learn's scorers: negated, so that more is better
        return False
    return any(word in _LOWER or word.endswith(_ENDINGS) for word in words)


def _check_name(what: str, name: str, code: str) -> None:
    if not name or name != name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidInput(
            f"not a {what}'s name: {name!r:.80}; expected 1 to {_MAX_NAME} printable characters, none of them a blank "
            "at an end",
            code=code,
        )


def _digest(value: Json) -> Digest | None:
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except InvalidInput:
        return None


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def said_at(value: Json, known: datetime) -> datetime:
    """When something was said: as it says itself, unless that is later than what is known, or no time.

    So that a clock that is wrong, or a statement from elsewhere that says tomorrow, does not count as the latest word
    for good.
    """
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else known
        if found.tzinfo is None:
            return known
        # A time in whole seconds was cut down to them: what was said within that second was not said later.
        rest = timedelta(seconds=1, microseconds=-1) if known.microsecond == 0 else timedelta()
        found = found.astimezone(UTC)
        return found if found <= known + rest else known
    except (ValueError, OverflowError):
        return known


def _stamp(moment: datetime) -> str:
    """A time with microseconds: two evaluations within a second are two."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
