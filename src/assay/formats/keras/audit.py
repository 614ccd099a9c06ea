"""What a Keras configuration can make a loader do: an allow-list look at every serialised object in it.

Concept: Keras rebuilds a model by importing ``module`` and calling ``class_name`` of every dictionary that has them,
wherever it stands in the configuration. So everything is looked at, not only the layers. What belongs to Keras and is
not known to do harm is silent; everything else is a finding.

Rule for editors: no schema. A dictionary with ``class_name`` counts wherever it is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MAX_FINDINGS = 200
"""Findings about one configuration; more of them say nothing new."""

_KERAS_ROOTS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "tensorflow_core.python.keras")
_KERAS_FAMILY = ("keras_hub", "keras_nlp", "keras_cv", "keras_tuner", "keras_rs", "tensorflow_addons")
"""Packages by the Keras authors that are imported when named: worth knowing, not foreign."""

_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
_INERT = frozenset(
    {"__keras_tensor__", "__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
)
_DANGEROUS = {
    "get_file": Severity.NETWORK,
    "enable_unsafe_deserialization": Severity.EXECUTE,
    "load_model": Severity.EXECUTE,
    "load_weights": Severity.READ,
    "save_model": Severity.WRITE,
    "save_weights": Severity.WRITE,
    "model_to_dot": Severity.EXECUTE,
    "plot_model": Severity.WRITE,
    "run_script_remote": Severity.EXECUTE,
    "decode_predictions": Severity.NETWORK,
}
"""Functions of Keras itself that a model has no reason to name, with what they can do."""

_FUNCTION_HOMES = frozenset(
    {"activations", "constraints", "initializers", "losses", "metrics", "ops", "quantizers", "random", "regularizers"}
)
"""Parts of Keras whose functions compute; others (``applications``, ``datasets``, ``utils``) fetch, read and write."""

_FOREIGN_OPS = (
    "io.",
    "raw_ops.",
    "compat.",
    "data.",
    "saved_model.",
    "load_",
    "py_function",
    "numpy_function",
    "keras.",
)
"""Beginnings of TensorFlow symbols that reach beyond numbers."""


def audit(config: Json, path: str) -> list[Finding]:
    """Findings about everything that *config* would build.

    Args:
        config: a parsed model or training configuration.
        path: the entry it came from.
    """
    findings: list[Finding] = []
    for item in _objects(config):
        for finding in _judge(item, path):
            if finding not in findings:
                findings.append(finding)
            if len(findings) >= MAX_FINDINGS:
                text = f"Keras configuration: more than {MAX_FINDINGS} findings, the rest was not looked at"
                return [*findings, Finding("keras-limit", Severity.INCOMPLETE, text, path)]
    return findings


def _objects(config: Json) -> Iterator[Mapping[str, Json]]:
    # The depth is bounded by the JSON parser, the number of values by the text.
    stack: list[Json] = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            if "class_name" in value or "function_type" in value:
                yield value
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def _judge(item: Mapping[str, Json], path: str) -> Iterator[Finding]:
    name = _text(item.get("class_name"))
    config = item.get("config")
    inner = config if isinstance(config, Mapping) else {}
    label = _text(inner.get("name")) or name
    short = name.rpartition(">")[2].rpartition(".")[2]
    if name == "__lambda__" or item.get("function_type") == "lambda":
        yield _finding("keras-lambda-code", Severity.EXECUTE, "holds marshalled Python bytecode", path, label)
    if short == "Lambda":
        yield _finding(
            "keras-lambda", Severity.EXECUTE, f"layer {label!r} runs a Python function of the file", path, name
        )
    elif short == "TorchModuleWrapper":
        yield _finding("keras-torch-module", Severity.EXECUTE, f"layer {label!r} unpickles a torch module", path, name)
    elif short == "TFSMLayer":
        source = _text(inner.get("filepath"))
        yield _finding(
            "keras-saved-model-layer", Severity.EXECUTE, f"layer {label!r} loads a SavedModel from a path", path, source
        )
    elif short in _LOOKUPS:
        yield from _vocabulary(inner, label, path)
    elif short in {"TFOpLambda", "SlicingOpLambda"}:
        function = _text(inner.get("function"))
        if function.startswith(_FOREIGN_OPS):
            yield _finding(
                "keras-foreign-op", Severity.EXECUTE, f"layer {label!r} calls a TensorFlow symbol", path, function
            )
    if name not in _INERT:
        yield from _origin(item, name, config, path)


def _vocabulary(config: Mapping[str, Json], label: str, path: str) -> Iterator[Finding]:
    for key in ("vocabulary", "idf_weights", "file_path"):
        value = config.get(key)
        if isinstance(value, str) and value:
            severity = Severity.NETWORK if "://" in value else Severity.READ
            yield _finding(
                "keras-vocabulary-path", severity, f"layer {label!r} reads its {key} from a path", path, value
            )


def _origin(item: Mapping[str, Json], name: str, config: Json, path: str) -> Iterator[Finding]:
    """Findings about where an object would be taken from."""
    module, registered = _text(item.get("module")), _text(item.get("registered_name"))
    function = config if isinstance(config, str) else name
    dotted = f"{module}.{function}" if module else function
    last = function.rpartition(".")[2]
    if last in _DANGEROUS:
        yield _finding(
            "keras-dangerous-function", _DANGEROUS[last], "names a function that reaches outside", path, dotted
        )
    elif module and name == "function" and _under(module, _KERAS_ROOTS) and not _computes(module):
        text = "names a function of a part of Keras that reads, writes or fetches files"
        yield _finding("keras-dangerous-function", Severity.EXECUTE, text, path, dotted)
    if module == "builtins" and name == "function":
        yield _finding(
            "keras-custom-object", Severity.NOTE, "needs a function that the file does not hold", path, function
        )
    elif module and not _under(module, _KERAS_ROOTS):
        if _under(module, _KERAS_FAMILY):
            yield _finding("keras-custom-object", Severity.NOTE, "needs a package beside Keras", path, dotted)
        else:
            yield _finding(
                "keras-foreign-module", Severity.EXECUTE, "a loader imports a module outside Keras", path, dotted
            )
    elif ">" in name or ">" in registered:
        custom = registered if ">" in registered else name
        yield _finding("keras-custom-object", Severity.NOTE, "needs a class that the file does not hold", path, custom)


def _computes(module: str) -> bool:
    parts = module.split(".")
    inner = parts[next((index for index, part in enumerate(parts) if part in {"keras", "tf_keras"}), 0) + 1 :]
    if inner[:1] == ["src"]:
        inner = inner[1:]
    return bool(inner) and inner[0] in _FUNCTION_HOMES


def _under(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def _finding(rule: str, severity: Severity, message: str, path: str, evidence: str) -> Finding:
    return Finding(rule, severity, f"Keras configuration: {message}", path, evidence=evidence[:200])


def _text(value: Json) -> str:
    return value[:400] if isinstance(value, str) else ""
