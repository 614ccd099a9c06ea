"""skops archives that could run something are found by what they name; those of scikit-learn's estimators are safe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hostile_skops import archive, estimator, node

from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree


def found(data: bytes) -> list[Finding]:
    """Findings above a note."""
    report = inspect(Tree.of({"model.skops": data}), all_formats())
    findings = [finding for finding in report.all_findings if finding.severity is not Severity.NOTE]
    assert all(finding.effect for finding in findings if finding.severity is Severity.EXECUTE)
    return findings


def rules(data: bytes) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found(data)}


HOSTILE: list[tuple[str, Any, Any, str, Severity]] = [
    # what it is, the hostile node, its honest twin, rule, severity
    (
        "a function",
        node("FunctionNode", {}, "os.system"),
        node("FunctionNode", {}, "sklearn.metrics._classification.accuracy_score"),
        "skops-dangerous-type",
        Severity.EXECUTE,
    ),
    (
        "a class of the author's",
        node("ObjectNode", node("DictNode", {}), "my_project.Model"),
        node("ObjectNode", node("DictNode", {}), "sklearn.preprocessing._data.StandardScaler"),
        "skops-unknown-type",
        Severity.EXECUTE,
    ),
    (
        "a class in the place of a dictionary",
        node("DictNode", {}, "my_project.Model"),
        node("DictNode", {}, "collections.OrderedDict"),
        "skops-unknown-type",
        Severity.EXECUTE,
    ),
    (
        "a function in the place of a tuple",
        node("TupleNode", [], "sklearn.metrics._classification.accuracy_score"),
        node("TupleNode", [], "builtins.tuple"),
        "skops-unknown-type",
        Severity.EXECUTE,
    ),
    (
        "a class in the place of a list",
        node("ListNode", [], "my_project.Model"),
        node("ListNode", [], "builtins.list"),
        "skops-unknown-type",
        Severity.EXECUTE,
    ),
    (
        "a method that is none",
        node("MethodNode", {"func": "__init__.__globals__", "obj": estimator()}, "sklearn.svm._classes.SVC"),
        node("MethodNode", {"func": "predict", "obj": estimator()}, "sklearn.svm._classes.SVC"),
        "skops-method",
        Severity.EXECUTE,
    ),
    (
        "a caller of methods",
        node("OperatorFuncNode", {}, "operator.methodcaller"),
        node("OperatorFuncNode", {}, "operator.itemgetter"),
        "skops-operator",
        Severity.EXECUTE,
    ),
    (
        "a class in the place of an array",
        node("NdArrayNode", [], "my_project.Array", type="json", shape=node("TupleNode", [], "builtins.tuple")),
        node("NdArrayNode", [], "numpy.ndarray", type="json", shape=node("TupleNode", [], "builtins.tuple")),
        "skops-unknown-type",
        Severity.EXECUTE,
    ),
    (
        "a kind of node that skops does not have",
        node("EvilNode", {}, "builtins.dict"),
        node("DictNode", {}),
        "skops-unknown-node",
        Severity.INCOMPLETE,
    ),
]


@pytest.mark.parametrize(("bad", "good", "rule", "severity"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE])
def test_what_a_schema_names_is_found_wherever_it_stands(bad: Any, good: Any, rule: str, severity: Severity) -> None:
    def places(inner: Any) -> list[Any]:
        return [
            inner,
            estimator(parameter=inner),
            estimator(deep=node("ListNode", [node("TupleNode", [node("DictNode", {"a": inner})], "builtins.tuple")])),
        ]

    for schema in places(bad):
        assert (rule, severity) in rules(archive(schema))
    for schema in places(good):
        assert found(archive(schema)) == []


@pytest.mark.framework
@pytest.mark.filterwarnings("ignore")
def test_estimators_that_skops_itself_writes_are_safe() -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    data, target = np.random.default_rng(0).random((60, 3)), np.arange(60) % 3
    estimators = [
        RandomForestClassifier(5, random_state=np.random.RandomState(0)),
        HistGradientBoostingClassifier(max_iter=3),
        make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression()),
        make_pipeline(make_column_transformer((StandardScaler(), [0, 1])), SGDClassifier()),
        GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 2]}, cv=2),
        GaussianProcessClassifier(),
    ]
    odd = {str(one): found(skops.dumps(one.fit(data, target))) for one in estimators}

    assert {name: findings for name, findings in odd.items() if findings} == {}
