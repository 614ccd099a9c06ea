"""MLflow model directories, described from ``MLmodel`` and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.formats.mlflow.folder import MLflowFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = MLflowFormat()
INPUTS = [
    {"type": "double", "name": "a", "required": True},
    {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}},
    {"type": "array", "name": "c", "items": {"type": "string"}},
]
MODEL = {
    "flavors": {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "python_version": "3.11.7"},
        "sklearn": {"pickled_model": "model.pkl", "sklearn_version": "1.9.1", "serialization_format": "cloudpickle"},
    },
    "mlflow_version": "3.17.2",
    "model_id": "m-1",
    "model_uuid": "m-1",
    "run_id": "abc",
    "signature": {
        "inputs": json.dumps(INPUTS),
        "outputs": '[{"type": "long"}]',
        "params": '[{"name": "k", "default": 3, "type": "long"}]',
    },
    "utc_time_created": "2026-11-23 15:00:00",
}


def tree_of(model: object = None, folder: str = "", **files: str) -> Tree:
    """A directory with the model above, or *model*; keywords (``requirements_txt``) are files beside it."""
    prefix = f"{folder}/" if folder else ""
    marker = model if isinstance(model, str) else yaml.safe_dump(MODEL if model is None else model)
    named = {f"{prefix}{name.replace('_txt', '.txt').replace('_yaml', '.yaml')}": text for name, text in files.items()}
    contents = {f"{prefix}MLmodel": marker, f"{prefix}model.pkl": "x", **named}
    return Tree.of({path: text.encode() for path, text in contents.items()})


def describe(tree: Tree) -> Description:
    groups = FORMAT.detect(tree)
    assert len(groups) == 1
    return FORMAT.describe(tree, groups[0])


def rules(found: Description) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in found.findings}


def test_a_model_says_flavor_signature_and_run() -> None:
    found = describe(tree_of())

    assert (found.framework, found.framework_version, found.format_version) == ("scikit-learn", "1.9.1", "3.17.2")
    assert found.inputs == (
        Port("a", "float64", (None,)),
        Port("input1", "float32", (None, 28, 28)),
        Port("c", "sequence(string)", (None,)),
    )
    assert found.outputs == (Port("output", "int64", (None,)),)
    assert found.metadata["inference_parameters"] == [{"name": "k", "default": 3, "type": "long"}]
    assert found.run is not None
    assert (found.run.system, found.run.run_id, found.run.extra["model_id"]) == ("mlflow", "abc", "m-1")
    assert found.findings == ()


def test_the_group_is_the_marker_and_the_files_beside_it_in_any_folder() -> None:
    tree = tree_of(folder="a/b", requirements_txt="numpy\n", conda_yaml="name: x\n")

    assert FORMAT.detect(tree) == [("a/b/MLmodel", "a/b/requirements.txt", "a/b/conda.yaml")]
    assert describe(tree).requirements == ("numpy",)


def test_requirements_are_kept_and_everything_else_in_them_is_reported() -> None:
    text = """
        # a comment
        mlflow==3.17.2
        scikit-learn[extra] >= 1.0 ; python_version > "3.9"   # why
        numpy \\
            >=1
        torch --hash=sha256:abc
        --extra-index-url https://user:secret@example.com/simple
        --find-l=https://example.com
        -r other.txt
        git+https://hunter2@example.com/x.git
        mine @ https://example.com/mine.whl
        ./code/mine.whl
        --pre
    """

    found = describe(tree_of(requirements_txt=text))

    assert found.requirements == (
        "mlflow==3.17.2", 'scikit-learn[extra] >= 1.0 ; python_version > "3.9"', "numpy              >=1", "torch",
        "mine @ https://example.com/mine.whl",
    )  # fmt: skip
    counts = [(finding.rule, finding.severity.value) for finding in found.findings]
    assert counts == [
        ("mlflow-requirement-option", "network"), ("mlflow-requirement-option", "network"),
        ("mlflow-requirement-option", "read"), ("mlflow-requirement-url", "network"),
        ("mlflow-requirement-url", "network"), ("mlflow-requirement-path", "read"),
        ("mlflow-requirement-option", "note"),
    ]  # fmt: skip
    assert "secret" not in str(found)
    assert "hunter2" not in str(found)


def test_conda_stands_in_for_missing_requirements() -> None:
    conda = (
        "channels: [conda-forge, 'https://example.com/c']\ndependencies: [python=3.10.1, pip, {pip: [numpy==2.0]}]\n"
    )

    found = describe(tree_of(conda_yaml=conda))

    assert found.requirements == ("numpy==2.0",)
    assert found.metadata["python"] == "3.10.1"
    assert rules(found) == {"mlflow-conda-channel": Severity.NETWORK}


def test_code_that_loading_runs_is_reported() -> None:
    function = {"loader_module": "evil.loader", "code": "code", "model_code_path": "/home/x/agent.py"}
    tree = tree_of({"flavors": {"python_function": function}}, **{"code/x.py": "1"})

    found = describe(tree)

    assert rules(found) == dict.fromkeys(
        ("mlflow-loader-module", "mlflow-code-paths", "mlflow-model-code"), Severity.EXECUTE
    )
    assert found.framework == "mlflow"


def test_paths_that_lead_outside_or_nowhere_are_reported() -> None:
    function = {"loader_module": "mlflow.x", "data": "../../etc/passwd", "artifacts": {"w": {"path": "gone/weights"}}}

    assert rules(describe(tree_of({"flavors": {"python_function": function}}))) == {
        "mlflow-path": Severity.READ,
        "mlflow-missing-file": Severity.MISLEAD,
    }


def test_a_transformers_flavor_names_task_and_base_model() -> None:
    flavor = {"task": "text-classification", "source_model_name": "org/base", "transformers_version": "5.0",
              "pipeline_model_type": "BertForSequenceClassification"}  # fmt: skip

    found = describe(tree_of({"flavors": {"transformers": flavor}}))

    assert (found.task, found.base_models, found.framework_version) == ("text-classification", ("org/base",), "5.0")
    assert found.architecture == "BertForSequenceClassification"


def test_a_damaged_signature_is_incomplete_and_the_rest_kept() -> None:
    found = describe(tree_of(MODEL | {"signature": {"inputs": "[[[", "outputs": '[{"type": "long"}]'}}))

    assert rules(found) == {"mlflow-signature": Severity.INCOMPLETE}
    assert len(found.outputs) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("flavors: [unclosed", id="not yaml"),
        pytest.param("flavors: 3\n", id="flavors is a number"),
        pytest.param("flavors: &a {x: *a}\n", id="alias"),
        pytest.param("flavors: " + "[" * 5000, id="deep"),
        pytest.param("flavors: !!python/object/apply:os.system ['true']\n", id="tag"),
    ],
)
def test_models_that_are_no_mapping_of_flavors_are_refused(text: str) -> None:
    with pytest.raises(BadFormat):
        describe(tree_of(text))


def test_a_marker_of_many_megabytes_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        describe(tree_of("flavors:\n" + "  a: b\n" * 1_000_000))


def test_environment_files_that_are_too_long_or_damaged_are_incomplete() -> None:
    found = describe(tree_of(requirements_txt="a\n" * 600_000, conda_yaml="{{{"))

    assert [finding.severity for finding in found.findings] == [Severity.INCOMPLETE] * 2


@pytest.mark.parametrize("text", ["", "hello", "- a\n- b\n", "name: x\n"])
def test_other_files_of_that_name_are_not_claimed(text: str) -> None:
    assert FORMAT.detect(tree_of(text)) == []


SEED = yaml.safe_dump(MODEL).encode()
REQUIREMENTS = b"numpy==1\n--index-url https://x\n-r x\ngit+https://y\n"


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 900), st.binary(max_size=10), st.booleans(), st.binary(max_size=40))
def test_damaged_directories_give_a_description_or_our_errors(at: int, patch: bytes, cut: bool, tail: bytes) -> None:
    model = SEED[:at] + patch + (b"" if cut else SEED[at + len(patch) :])
    tree = Tree.of({"MLmodel": model, "requirements.txt": REQUIREMENTS + tail, "conda.yaml": tail})
    for group in FORMAT.detect(tree):
        try:
            found = FORMAT.describe(tree, group)
        except AssayError:
            continue
        canonical(dict(found.metadata))


@pytest.mark.framework
def test_a_directory_saved_by_mlflow_agrees_with_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports warn
        import mlflow.models
        import mlflow.sklearn
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        rows = np.random.default_rng(0).normal(size=(20, 3))
        model = LogisticRegression().fit(rows, rows[:, 0] > 0)
        folder = tmp_path / "model"
        signature = mlflow.models.infer_signature(rows, model.predict(rows), params={"k": 3})
        mlflow.sklearn.save_model(
            model, str(folder), signature=signature, input_example=rows[:2], metadata={"team": "x"},
            pip_requirements=["scikit-learn==1.9.1", "numpy"],
        )  # fmt: skip
        info = mlflow.models.get_model_info(str(folder))

    found = describe(Tree({file.relative_to(tmp_path).as_posix(): FileSource(file) for file in folder.rglob("*")}))

    assert found.format_version == info.mlflow_version == mlflow.__version__
    assert found.framework_version == info.flavors["sklearn"]["sklearn_version"]
    assert [port.dtype for port in found.inputs] == ["float64"]
    assert found.inputs[0].shape == (None, 3)
    assert found.metadata["model_uuid"] == info.model_uuid
    assert found.metadata["metadata"] == {"team": "x"}
    assert found.metadata["input_example"] is not None
    assert {"scikit-learn==1.9.1", "numpy"} <= set(found.requirements)
    assert found.findings == ()


class TestMLflowContract(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return MLflowFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"MLmodel": yaml.safe_dump(MODEL).encode(), "model.pkl": b"x", "requirements.txt": b"numpy\n"}
