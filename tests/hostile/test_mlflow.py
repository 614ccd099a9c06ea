"""MLflow directories and requirements: code, places and package sources they name; honest ones are safe."""

from __future__ import annotations

from datetime import date

import pytest
from hostile_folders import MLFLOW

from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT
from assay.service.audit import audit
from assay.spec.finding import Severity
from assay.spec.report import Verdict
from assay.trees import Tree
from assay.wiring.auditing import auditing


@pytest.mark.parametrize("case", MLFLOW)
def test_what_an_mlflow_model_asks_for_beyond_its_library_is_found(case: str) -> None:
    hostile, honest, rule = MLFLOW[case]

    found, clean = audit(Tree.of(hostile), auditing()), audit(Tree.of(honest), auditing())

    assert rule in {item.rule for item in found.findings if item.severity is not Severity.NOTE}
    assert decide(found, [DEFAULT], subject=None, today=date(2026, 1, 1)).verdict is not Verdict.SAFE
    assert [item for item in clean.findings if item.severity is not Severity.NOTE] == []
