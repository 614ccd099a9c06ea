"""What is said about two versions: told with its direction, and never a change of behaviour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from item_diffs import NEVER

from assay.compare.items import compare_items
from assay.compare.sides import Compared, Options
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.digest import Digest
from assay.spec.statement import Statement
from assay.wiring.comparing import open_side

SUBJECT = Digest.parse("sha256:" + "0" * 64)


def said(**kinds: Any) -> list[Statement]:
    return [Statement(SUBJECT, kind, body, datetime(2026, 1, 1, tzinfo=UTC)) for kind, body in kinds.items()]


@pytest.fixture
def side(tmp_path: Path) -> Compared:
    (tmp_path / "config.json").write_text("{}")
    return open_side(str(tmp_path), NEVER)


def told(side: Compared, old: list[Statement], new: list[Statement]) -> list[Item]:
    items, findings = compare_items(replace(side, statements=old), replace(side, statements=new), Options(audit=False))
    assert findings == ()
    assert all(item.effect is Effect.NOTE for item in items)
    return list(items)


@pytest.mark.parametrize(
    ("metric", "old", "new", "text"),
    [
        ("auc", 0.91, 0.93, "+0.02, better as such metrics go"),
        ("auc", 0.93, 0.91, "-0.02, worse as such metrics go"),
        ("val_loss", 0.5, 0.25, "-0.25, better as such metrics go"),
        ("rmse", 1.0, 2.0, "+1, worse as such metrics go"),
    ],
)
def test_a_metric_is_told_with_its_delta_and_direction(side, metric: str, old: float, new: float, text: str) -> None:
    (item,) = told(side, said(metrics={"metrics": {metric: old}}), said(metrics={"metrics": {metric: new}}))

    assert (item.area, item.path, item.old, item.new, item.text) == (Area.METRICS, metric, old, new, text)


def test_evaluations_are_compared_on_the_same_dataset(side) -> None:
    def on(dataset: str, value: float) -> dict[str, Any]:
        return {"metrics": {"f1": value}, "dataset": dataset, "at": "2026-01-01T00:00:00Z"}

    items = told(side, said(evaluation=on("a", 0.5)), said(evaluation=on("b", 0.6)))

    assert {(item.path, item.kind) for item in items} == {
        ("f1 on a", ItemKind.REMOVED),
        ("f1 on b", ItemKind.ADDED),
    }


def test_parameters_are_told_one_by_one(side) -> None:
    items = told(
        side, said(params={"params": {"depth": 6, "lr": 0.1}}), said(params={"params": {"depth": 8, "lr": 0.1}})
    )

    assert [(item.area, item.path, item.old, item.new) for item in items] == [(Area.PARAMS, "params: depth", 6, 8)]


def test_an_environment_is_summed_up(side) -> None:
    def made(python: str, **distributions: str) -> list[Statement]:
        return said(environment={"python": {"version": python}, "distributions": distributions})

    items = told(side, made("3.11.1", torch="2.1.0", numpy="1.26.0"), made("3.11.2", torch="3.0.0", tqdm="4.0"))

    assert {item.area for item in items} == {Area.ENVIRONMENT}
    packages = next(item for item in items if item.path == "environment: packages")
    assert packages.text == "1 changed: torch 2.1.0 → 3.0.0 (major version); 1 added: tqdm; 1 removed: numpy"


@pytest.mark.parametrize(
    ("kind", "old", "new", "area"),
    [
        ("base", {"name": "a:1"}, {"name": "a:2"}, Area.LINEAGE),
        ("run", {"system": "mlflow", "run_id": "1"}, {"system": "mlflow", "run_id": "2"}, Area.LINEAGE),
        ("note", {"text": "old"}, {"text": "new"}, Area.METADATA),
    ],
)
def test_other_statements_are_notes_of_their_area(side, kind: str, old: Any, new: Any, area: Area) -> None:
    assert [item.area for item in told(side, said(**{kind: old}), said(**{kind: new}))] == [area]


def test_a_side_that_was_not_pushed_says_nothing(side) -> None:
    assert told(side, [], said(metrics={"metrics": {"auc": 0.9}})) == []
