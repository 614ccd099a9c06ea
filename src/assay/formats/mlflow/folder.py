"""MLflow model directories: what the ``MLmodel`` file and the environment files beside it say.

    MLmodel                 YAML: flavors, signature (JSON inside), ids, versions, metadata
    requirements.txt, conda.yaml, python_env.yaml
    input_example.json, serving_input_example.json
    model.skops, model.pkl, data/, artifacts/, code/ ...    described by their own formats

Source: MLflow documentation, "MLflow Model format"; ``mlflow/models/model.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from posixpath import basename, dirname, normpath
from typing import Any

from assay.containers.documents import MAX_YAML, parse_yaml, plain
from assay.containers.guard import guarded
from assay.errors import BadFormat, LimitExceeded
from assay.formats.mlflow.environment import CONDA, PYTHON, REQUIREMENTS, Environment, environment
from assay.formats.mlflow.signature import parameters, ports
from assay.spec.description import Description, Port, RunLink
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

MARKER = "MLmodel"
BESIDE = (
    REQUIREMENTS, CONDA, PYTHON, "input_example.json", "serving_input_example.json", "registered_model_meta",
)  # fmt: skip
"""Files beside the marker that belong to the description; what else lies there is described by its own format."""
_KEY = re.compile(rb"^(?:flavors|mlflow_version|model_uuid|utc_time_created|artifact_path|signature):", re.MULTILINE)
_FRAMEWORKS = {
    "sklearn": "scikit-learn",
    "sentence_transformers": "sentence-transformers",
    "llama_index": "llama-index",
}
_VERSIONS = {"xgboost": "xgb_version", "lightgbm": "lgb_version"}
_FILES = (
    "model_path", "pickled_model", "data", "model_data", "python_model", "code", "model_binary",
)  # fmt: skip
"""Keys of flavors whose values are paths inside the directory."""
_IDS = ("model_id", "model_uuid", "artifact_path")
_OTHER = ("mlflow_version", "utc_time_created", "model_size_bytes", "metadata", "prompts", "resources", "auth_policy")


class MLflowFormat:
    """Describes MLflow model directories by their ``MLmodel`` file."""

    name = "mlflow"
    covers = "directory"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per ``MLmodel``: itself, then the environment and example files beside it."""
        return [
            (path, *(other for name in BESIDE if (other := Tree.sibling(path, name)) in tree))
            for path in tree.named(MARKER)
            if _KEY.search(tree.head(path))
        ]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Flavors, signature, environment and run of one model directory.

        Raises:
            BadFormat: ``MLmodel`` is not a YAML mapping with flavors.
        """
        path = paths[0]
        with guarded("an MLflow model", path):
            if tree.size(path) > MAX_YAML:
                raise LimitExceeded(f"{path}: {tree.size(path):,} bytes, at most {MAX_YAML:,} are read", path=path)
            body = parse_yaml(tree.open(path).read().decode("utf-8-sig"), path)
            flavors = body.get("flavors") if isinstance(body, Mapping) else None
            if not isinstance(body, Mapping) or not isinstance(flavors, Mapping):
                raise BadFormat(f"{path}: expected a mapping with 'flavors', found none", path=path)
            known = {str(name): value if isinstance(value, Mapping) else {} for name, value in flavors.items()}
            return _description(tree, paths, body, known)


Flavors = Mapping[str, Mapping[str, Any]]


def _description(tree: Tree, paths: tuple[str, ...], body: Mapping[str, Any], flavors: Flavors) -> Description:
    path = paths[0]
    surroundings = environment(tree, path)
    native = next((name for name in flavors if name != "python_function"), None)
    own = flavors.get(native or "", {})
    inputs, outputs, settings, doubts = _signature(body.get("signature"), path)
    findings = [*doubts, *surroundings.findings, *_code(flavors, path), *_files(tree, path, flavors)]
    return Description(
        format="mlflow",
        paths=tuple(sorted(paths)),
        format_version=_word(body.get("mlflow_version")),
        framework=_FRAMEWORKS.get(native, native) if native else "mlflow",
        framework_version=_word(own.get(_VERSIONS.get(native or "", f"{native}_version"))),
        architecture=_word(own.get("pipeline_model_type")) or _word(own.get("model_class")),
        task=_word(own.get("task")),
        inputs=inputs,
        outputs=outputs,
        requirements=tuple(dict.fromkeys(surroundings.requirements)),
        base_models=_bases(own),
        run=_run(body),
        metadata=_metadata(body, flavors, surroundings, settings),
        findings=tuple(findings),
    )


def _signature(signature: Any, path: str) -> tuple[tuple[Port, ...], tuple[Port, ...], Json, list[Finding]]:
    body = signature if isinstance(signature, Mapping) else {}
    found: dict[str, Any] = {"inputs": (), "outputs": (), "params": None}
    doubts = []
    for key, name in (("inputs", "input"), ("outputs", "output"), ("params", "")):
        try:
            found[key] = ports(body.get(key), name, path) if name else parameters(body.get(key), path)
        except BadFormat as error:
            message = f"the signature's {key} cannot be read: {error.message}"
            doubts.append(Finding("mlflow-signature", Severity.INCOMPLETE, message, path))
    return found["inputs"], found["outputs"], found["params"], doubts


def _code(flavors: Flavors, path: str) -> list[Finding]:
    """What loading the model runs besides MLflow and the framework."""
    function = flavors.get("python_function", {})
    found = []
    loader = function.get("loader_module")
    if isinstance(loader, str) and loader.split(".")[0] != "mlflow":
        message = f"loading imports the module {loader[:100]!r}"
        found.append(Finding("mlflow-loader-module", Severity.EXECUTE, message, path, evidence=loader[:200]))
    for name, flavor in flavors.items():
        folder = flavor.get("code")
        if isinstance(folder, str) and folder and (name == "python_function" or folder != function.get("code")):
            message = f"loading makes the modules under {folder[:100]!r} importable"
            found.append(Finding("mlflow-code-paths", Severity.EXECUTE, message, path, evidence=folder[:200]))
    scripts = [
        script for flavor in flavors.values() if isinstance(script := flavor.get("model_code_path"), str) and script
    ]
    for script in dict.fromkeys(scripts):
        message = f"loading runs the script {basename(script)[:100]!r}"
        found.append(Finding("mlflow-model-code", Severity.EXECUTE, message, path))
    return found


def _files(tree: Tree, path: str, flavors: Flavors) -> list[Finding]:
    """Paths in flavors that lead outside the directory or to nothing."""
    folder, found = dirname(path), []
    for value in sorted(_named_files(flavors)):
        inner = normpath(value.replace("\\", "/"))
        target = f"{folder}/{inner}" if folder else inner
        if inner.startswith(("../", "/")) or inner == ".." or "://" in value:
            message = "a path leads outside the model"
            found.append(Finding("mlflow-path", Severity.READ, message, path, evidence=value[:200]))
        elif inner != "." and target not in tree and not tree.under(target):
            message = f"the file {value[:100]!r} is not there"
            found.append(Finding("mlflow-missing-file", Severity.MISLEAD, message, path))
    return found


def _named_files(flavors: Flavors) -> set[str]:
    named = [value for flavor in flavors.values() for key, value in flavor.items() if key in _FILES]
    artifacts = flavors.get("python_function", {}).get("artifacts")
    if isinstance(artifacts, Mapping):
        named += [artifact.get("path") for artifact in artifacts.values() if isinstance(artifact, Mapping)]
    return {value for value in named if isinstance(value, str) and value}


def _bases(own: Mapping[str, Any]) -> tuple[str, ...]:
    name, revision = own.get("source_model_name"), own.get("source_model_revision")
    if not isinstance(name, str) or not name:
        return ()
    return (f"{name[:500]}@{revision[:100]}" if isinstance(revision, str) and revision else name[:500],)


def _run(body: Mapping[str, Any]) -> RunLink | None:
    if not body.get("run_id") and not body.get("model_id"):
        return None
    extra = {key: plain(body[key]) for key in _IDS if body.get(key)}
    return RunLink("mlflow", _word(body.get("run_id")), extra=extra)


def _metadata(body: Mapping[str, Any], flavors: Flavors, surroundings: Environment, settings: Json) -> dict[str, Json]:
    metadata: dict[str, Json] = {"flavors": plain(flavors)}
    metadata |= {key: plain(body[key]) for key in _OTHER if body.get(key)}
    if _run(body) is None:
        metadata |= {key: plain(body[key]) for key in _IDS if body.get(key)}
    if surroundings.python:
        metadata["python"] = surroundings.python
    if settings:
        metadata["inference_parameters"] = settings
    if body.get("saved_input_example_info"):
        metadata["input_example"] = plain(body["saved_input_example_info"])
    return metadata


def _word(value: Any) -> str | None:
    return str(value)[:200] if isinstance(value, (str, int, float)) and value != "" else None
