"""Evaluations as values: what is accepted, what is read back from anybody's statement, and which number is better."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.evaluation import evaluation, lower_is_better, measured, read_evaluation, said_at
from assay.spec.statement import Statement

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SUBJECT = Digest.of(b"artifact")
DATA = str(Digest.of(b"data"))


def said(predicate: dict, *, kind: str = "evaluation", minutes: int = 0) -> Statement:
    return Statement(SUBJECT, kind, predicate, NOON + timedelta(minutes=minutes))


@given(
    st.dictionaries(
        st.text("abc @=", min_size=1).filter(lambda name: name and name == name.strip()),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
    ),
    st.none() | st.text("hold out-2026", min_size=1).filter(lambda name: name == name.strip()),
    st.datetimes(timezones=st.just(UTC)),
)
def test_what_is_said_is_read_back(metrics: dict[str, float], dataset: str | None, at: datetime) -> None:
    given_ = evaluation(metrics, at=at, dataset=dataset, dataset_digest=DATA if dataset else None, note="n", run="r")

    statement = Statement.parse(said(given_.predicate()).document(), created=at)

    assert read_evaluation(statement) == given_


@pytest.mark.parametrize("claimed", ["2099-01-01T00:00:00Z", "2026-01-31T15:00:00+02:00", "9999-12-31T23:59:59-23:00"])
def test_nothing_counts_as_said_later_than_it_was_attached(claimed: str) -> None:
    found = read_evaluation(said({"metrics": {"auc": 1}, "at": claimed}))

    assert found is not None
    assert found.at == NOON


@pytest.mark.parametrize("claimed", ["yesterday", "2026-01-01T00:00:00", 7, None, "0001-01-01T00:00:00+23:00"])
def test_what_is_no_time_counts_from_when_it_was_attached(claimed: object) -> None:
    found = read_evaluation(said({"metrics": {"auc": 1}, "at": claimed}))

    assert found is not None
    assert found.at == NOON


@pytest.mark.parametrize(
    ("metrics", "options", "code"),
    [
        ({}, {}, "bad-metric"),
        ({"auc": math.nan}, {}, "bad-metric"),
        ({"auc": math.inf}, {}, "bad-metric"),
        ({" ": 1.0}, {}, "bad-metric"),
        ({"a\nb": 1.0}, {}, "bad-metric"),
        ({"x" * 201: 1.0}, {}, "bad-metric"),
        ({"auc ": 1.0}, {}, "bad-metric"),
        ({"auc": 1.0}, {"dataset": " holdout"}, "bad-dataset"),
        ({"auc": True}, {}, "bad-metric"),
        ({"auc": 1.0}, {"dataset": ""}, "bad-dataset"),
        ({"auc": 1.0}, {"dataset": "a\x1b[2J"}, "bad-dataset"),
        ({"auc": 1.0}, {"dataset_digest": DATA}, "bad-dataset"),
        ({"auc": 1.0}, {"dataset": "d", "dataset_digest": "sha256:short"}, "invalid-digest"),
    ],
)
def test_what_is_no_evaluation_is_refused(metrics: dict, options: dict, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        evaluation(metrics, at=NOON, **options)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("predicate", "metrics"),
    [
        ({"metrics": {"auc": 1, "note": "high", "nan": None, "flag": True, "huge": 10**400}}, {"auc": 1.0}),
        ({"metrics": {"auc": 0.5}, "at": "yesterday", "dataset_digest": "?", "note": 3}, {"auc": 0.5}),
        ({"metrics": {"auc": 0.5}, "at": "2026-01-31T12:00:00"}, {"auc": 0.5}),
    ],
)
def test_of_a_strange_statement_what_can_be_understood_is_read(predicate: dict, metrics: dict) -> None:
    found = read_evaluation(said(predicate))

    assert found is not None
    assert found.metrics == metrics
    assert found.at == NOON


@pytest.mark.parametrize("predicate", [{}, {"metrics": [1]}, {"metrics": {"auc": 1.0}, "dataset": 3}])
def test_a_statement_of_no_known_form_is_no_evaluation(predicate: dict) -> None:
    assert read_evaluation(said(predicate)) is None


def test_a_statement_of_another_kind_is_no_evaluation() -> None:
    assert read_evaluation(said({"metrics": {"auc": 1.0}}, kind="note")) is None


def test_the_latest_number_counts_per_metric_and_dataset() -> None:
    found = measured(
        [
            said({"metrics": {"auc": 0.5}}, kind="metrics"),
            said({"metrics": {"auc": 0.6, "f1": 0.3}, "dataset": "d"}, minutes=1),
            said({"metrics": {"auc": 0.7}, "dataset": "d", "at": "2026-01-31T12:09:00Z"}, minutes=10),
            said({"metrics": {"auc": 0.8}, "dataset": "d", "at": "2026-01-31T12:08:00Z"}, minutes=12),
            said({"text": "n"}, kind="note"),
        ]
    )

    assert {key: one.value for key, one in found.items()} == {("auc", None): 0.5, ("auc", "d"): 0.7, ("f1", "d"): 0.3}


@pytest.mark.parametrize(
    "metric",
    ["loss", "val_loss", "valLoss", "log_loss", "logLoss", "RMSE", "test/mae", "mean_squared_error", "top5-error",
     "perplexity", "p99_latency_ms", "WER", "brier_score", "cross_entropy"],
)  # fmt: skip
def test_less_of_a_loss_an_error_or_a_latency_is_better(metric: str) -> None:
    assert lower_is_better(metric)


@pytest.mark.parametrize(
    "metric",
    ["auc", "f1", "accuracy", "mAP", "recall@5", "R2", "throughput", "neg_log_loss", "realtime_factor", "lossless"],
)
def test_more_of_anything_else_is_better_unless_a_person_says_otherwise(metric: str) -> None:
    assert not lower_is_better(metric)
    assert lower_is_better(metric, [metric])


def test_what_was_said_within_the_second_that_a_statement_states_keeps_its_order() -> None:
    second = datetime(2026, 11, 1, 12, 0, 5, tzinfo=UTC)
    said = [second.replace(microsecond=part).isoformat() for part in (0, 1, 999_999)]
    assert [said_at(text, second).isoformat() for text in said] == said
    assert said_at("2026-11-01T12:00:06+00:00", second) == second
