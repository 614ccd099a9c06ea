"""Evaluations: added to a version at any time, the latest counts, and comparable down the versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput, NotFound
from assay.service.evaluations import evaluate, evaluations, give, readings, recorded, table
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.evaluation import evaluation
from assay.spec.records import EventKind, Version
from assay.wiring.places import open_registry, reindex

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE, OTHER = str(Digest.of(b"one")), str(Digest.of(b"other"))


@pytest.fixture
def add(push, tmp_path: Path):
    """``add(metrics)``: a new version of ``m``, with metrics given at push."""
    count = iter(range(1000))

    def do(metrics: dict[str, float] | None = None) -> Version:
        file = tmp_path / f"{next(count)}.bin"
        file.write_text(file.name)
        return push(file, "m", claims=Claims(metrics=metrics or {})).version

    return do


def cells(body: dict, label: str) -> dict[int, tuple[float, float | None, bool] | None]:
    """Version number to value, difference and best of one column."""
    at = [column["label"] for column in body["columns"]].index(label)
    return {
        row["version"]: None if row["values"][at] is None else tuple(row["values"][at].values())
        for row in body["versions"]
    }


def test_an_evaluation_is_a_statement_that_leaves_the_identity_alone(registry: Registry, add) -> None:
    version = add()

    done = give(registry, version, {"auc": 0.93}, dataset="holdout", dataset_digest=ONE, note="n", run="mlflow://r")

    (said,) = registry.statements(version.manifest, "evaluation")
    assert done.new
    assert {key: value for key, value in said.predicate.items() if key != "at"} == {
        "metrics": {"auc": 0.93},
        "dataset": "holdout",
        "dataset_digest": ONE,
        "note": "n",
        "run": "mlflow://r",
    }
    assert registry.catalog.version("m") == version


def test_the_latest_evaluation_counts_and_all_are_kept_also_when_it_says_what_an_earlier_one_said(
    registry: Registry, add
) -> None:
    version = add({"auc": 0.5})
    for value in (0.9, 0.8, 0.9):
        assert give(registry, version, {"auc": value}, dataset="d").new

    assert [one.metrics["auc"] for one in evaluations(registry, version)] == [0.5, 0.9, 0.8, 0.9]
    assert {key: one.value for key, one in recorded(registry, version).items()} == {
        ("auc", None): 0.5,
        ("auc", "d"): 0.9,
    }


def test_saying_the_same_again_changes_nothing(registry: Registry, add) -> None:
    version = add()
    first = give(registry, version, {"auc": 0.9}, dataset="d")
    give(registry, version, {"auc": 0.9}, dataset="other")

    again = give(registry, version, {"auc": 0.9}, dataset="d")

    assert not again.new
    assert again.evaluation == first.evaluation
    assert len(evaluations(registry, version)) == 2


def test_an_evaluation_without_a_dataset_replaces_what_was_given_at_push(registry: Registry, add) -> None:
    version = add({"auc": 0.5})

    give(registry, version, {"auc": 0.6})

    assert recorded(registry, version)["auc", None].value == 0.6


def test_nothing_can_be_said_of_a_version_that_is_gone(registry: Registry, add) -> None:
    version = add()
    removed = registry.catalog.mark("m", version.number, EventKind.REMOVED, reason="r", actor="ada")

    with pytest.raises(NotFound):
        give(registry, removed, {"auc": 0.9})

    assert (
        registry.catalog.referrers(version.manifest)[-1].artifact_type
        != "application/vnd.assay.statement.evaluation.v1+json"
    )


def test_a_rebuilt_catalog_knows_the_evaluations(registry: Registry, home: Path, add) -> None:
    version = add()
    give(registry, version, {"auc": 0.9}, dataset="d")
    before = table(registry, "m")

    reindex(Settings(home, "tester"))

    assert table(open_registry(Settings(home, "tester")), "m") == before


def test_the_table_has_a_column_per_metric_and_dataset_with_differences_and_the_best(registry: Registry, add) -> None:
    first, second, third = add({"auc": 0.9}), add({"auc": 0.8}), add()
    give(registry, first, {"loss": 0.5}, dataset="d")
    give(registry, third, {"loss": 0.75, "auc": 0.7}, dataset="d")

    body = table(registry, "m")

    assert [column["label"] for column in body["columns"]] == ["auc", "auc@d", "loss@d"]
    assert [column["lower_is_better"] for column in body["columns"]] == [False, False, True]
    assert cells(body, "auc") == {3: None, 2: (0.8, 0.8 - 0.9, False), 1: (0.9, None, True)}
    assert cells(body, "loss@d") == {3: (0.75, 0.25, False), 2: None, 1: (0.5, None, True)}
    assert [row["version"] for row in body["versions"]] == [third.number, second.number, first.number]


@pytest.mark.parametrize("kind", [EventKind.YANKED, EventKind.REMOVED])
def test_a_version_that_must_not_be_used_is_marked_and_never_the_best(registry: Registry, add, kind: EventKind) -> None:
    add({"auc": 0.8})
    add({"auc": 0.9})
    registry.catalog.mark("m", 2, kind, reason="leak", actor="ada")

    body = table(registry, "m")

    assert cells(body, "auc") == {2: (0.9, 0.9 - 0.8, False), 1: (0.8, None, True)}
    assert "leak" in body["versions"][0].values()


def test_a_person_says_of_which_metrics_less_is_better(registry: Registry, add) -> None:
    add({"bpm": 2.0})
    add({"bpm": 1.0})

    assert cells(table(registry, "m"), "bpm")[1] == (2.0, None, True)
    assert cells(table(registry, "m", lower=["bpm"]), "bpm")[2] == (1.0, -1.0, True)


def test_one_name_for_two_datasets_is_two_columns(registry: Registry, add) -> None:
    for digest in (ONE, OTHER, None):
        give(registry, add(), {"auc": 0.5}, dataset="d", dataset_digest=digest)

    body = table(registry, "m")

    assert len(body["columns"]) == 3
    assert {column["dataset_digest"] for column in body["columns"]} == {None, ONE, OTHER}


def test_a_digest_that_only_some_evaluations_name_makes_no_column_of_its_own(registry: Registry, add) -> None:
    for digest in (ONE, None):
        give(registry, add(), {"auc": 0.5}, dataset="d", dataset_digest=digest)

    assert [column["label"] for column in table(registry, "m")["columns"]] == ["auc@d"]


def test_a_metric_on_several_datasets_is_named_by_dataset_or_digest(registry: Registry, add) -> None:
    versions = [add() for _ in range(3)]
    for version, dataset, digest in zip(versions, ("d", "d", "e"), (ONE, OTHER, None), strict=True):
        give(registry, version, {"auc": 0.5}, dataset=dataset, dataset_digest=digest)
    read = readings(registry, versions)

    assert read.column("auc", "e").label == "auc@e"
    assert read.column("auc", ONE).digest == ONE
    for dataset in (None, "d"):
        with pytest.raises(InvalidInput) as caught:
            read.column("auc", dataset)
        assert caught.value.code == "ambiguous-dataset"


def test_a_damaged_statement_does_not_hide_the_others(registry: Registry, add) -> None:
    version = add({"auc": 0.5})
    give(registry, version, {"f1": 0.6})
    (said,) = [one for one in registry.referrers(version.manifest) if "evaluation" in one.artifact_type]
    registry.blobs.set_aside(said.manifest)

    body = table(registry, "m")

    assert [column["label"] for column in body["columns"]] == ["auc"]
    assert len(body["versions"][0]["damaged"]) == 1


def test_only_the_newest_versions_are_shown_on_request(registry: Registry, add) -> None:
    for value in (0.7, 0.8, 0.9):
        add({"auc": value})

    assert cells(table(registry, "m", limit=2), "auc") == {3: (0.9, 0.9 - 0.8, True), 2: (0.8, None, False)}


def test_a_difference_is_to_the_next_older_version_that_has_the_metric(registry: Registry, add) -> None:
    for value in (0.5, 0.75, None, 1.0):
        add({} if value is None else {"auc": value})

    assert cells(table(registry, "m"), "auc") == {
        4: (1.0, 0.25, True),
        3: None,
        2: (0.75, 0.25, False),
        1: (0.5, None, False),
    }


def test_there_is_no_table_of_no_model(registry: Registry) -> None:
    with pytest.raises(NotFound) as caught:
        table(registry, "nowhere")

    assert caught.value.code == "model-not-found"


said = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["auc", "loss"]),
    st.sampled_from([None, "d"]),
    st.floats(-1, 1),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(st.lists(said, max_size=20))
def test_whatever_is_said_in_whatever_order_the_table_shows_the_last_word(
    registry: Registry, push, tmp_path: Path, words: list[tuple[int, str, str | None, float]]
) -> None:
    name = f"m{len(registry.catalog.models())}"
    versions = []
    for at in range(4):
        file = tmp_path / "weights.bin"
        file.write_text(f"{name} {at}")
        versions.append(push(file, name).version)
    expected: dict[tuple[str, str | None], dict[int, float]] = {}
    for at, (which, metric, dataset, value) in enumerate(words):
        moment = NOON + timedelta(microseconds=at)
        evaluate(registry, versions[which], evaluation({metric: value}, at=moment, dataset=dataset))
        expected.setdefault((metric, dataset), {})[which + 1] = value

    body = table(registry, name)

    found = {
        (column["metric"], column["dataset"]): {
            row["version"]: row["values"][at]["value"] for row in body["versions"] if row["values"][at] is not None
        }
        for at, column in enumerate(body["columns"])
    }
    assert found == expected
    for at, column in enumerate(body["columns"]):
        values = expected[column["metric"], column["dataset"]].values()
        best = min(values) if column["metric"] == "loss" else max(values)
        shown = [row["values"][at] for row in body["versions"] if row["values"][at] is not None]
        assert all(cell["best"] == (cell["value"] == best) for cell in shown)
