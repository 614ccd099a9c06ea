"""What a Keras configuration can make a loader do: an allow-list look at every serialised object in it.

Concept: Keras rebuilds a model by importing ``module`` and calling ``class_name`` of every dictionary that has them,
wherever it stands in the configuration. So everything is looked at, not only the layers. What Keras has by itself and
is not known to do harm (``classes``) is silent; everything else is a finding.

Rule for editors: no schema. A dictionary with ``class_name`` counts wherever it is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from assay.formats.keras.classes import has_class, has_function, has_part, is_family, part_of
from assay.formats.keras.symbols import judge_symbol
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MAX_FINDINGS = 200
"""Findings about one configuration; more of them say nothing new."""

MAX_OBJECTS = 100_000
"""Objects of one configuration: a layer has about six."""

MAX_VALUES = 3_000_000
"""Values of one configuration, those of vocabularies and arrays included."""

_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
_PATHS = ("vocabulary", "idf_weights", "file_path", "vocabulary_file", "filename")
_PLAIN = frozenset(
    {"__keras_tensor__", "__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__set__"}
    | {"TensorShape", "TypeSpec", "CompositeTensor", "tuple", "ellipsis", "slice", "ListWrapper", "type"}
)
"""Words for values, not for classes."""

_SPECS = frozenset({"TensorSpec", "RaggedTensorSpec", "SparseTensorSpec", "IndexedSlicesSpec", "VariableSpec"})
_CODE = re.compile(r"(?:4w|Yw)[A-Z]AAA[A-Za-z0-9+/=\s]{30,}")
"""Base64 text of a marshalled Python function: the mark of a code object, then its number of arguments."""

_RUNNING = frozenset({"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"})
"""Layers that run more than numbers."""

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
    "func_load": Severity.EXECUTE,
}
"""Functions of Keras itself that a model has no reason to name, with what they can do."""

_REACHES = {
    Severity.NETWORK: "fetch from the network",
    Severity.READ: "read a file outside the artifact",
    Severity.WRITE: "write a file outside the artifact",
    Severity.EXECUTE: "call a function that the artifact names",
}


def audit(config: Json, path: str, *, needed: bool = True) -> list[Finding]:
    """Findings about everything that *config* would build.

    Args:
        config: a parsed model or training configuration.
        path: the entry it came from.
        needed: whether loading fails without the classes that are named; the notes in a SavedModel are advice.
    """
    findings: list[Finding] = []
    for count, item in enumerate(_objects(config)):
        if item is None or count >= MAX_OBJECTS:
            text = "Keras configuration: more objects or values than are looked at"
            return [*findings, Finding("keras-limit", Severity.INCOMPLETE, text, path)]
        for finding in _judge(item, path, needed=needed):
            if finding not in findings:
                findings.append(finding)
            if len(findings) >= MAX_FINDINGS:
                text = f"Keras configuration: more than {MAX_FINDINGS} findings, the rest was not looked at"
                return [*findings, Finding("keras-limit", Severity.INCOMPLETE, text, path)]
    return findings


def _objects(config: Json) -> Iterator[Mapping[str, Json] | None]:
    """Dictionaries that stand for objects; None when there are more values than are looked at."""
    # The depth is bounded by the JSON parser.
    stack: list[Json] = [config]
    left = MAX_VALUES
    while stack:
        value = stack.pop()
        left -= 1 if not isinstance(value, (Mapping, list)) else 1 + len(value)
        if left < 0:
            yield None
            return
        if isinstance(value, Mapping):
            if not _MARKS.isdisjoint(value):
                yield value
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            stack.extend(reversed(value))
        elif isinstance(value, str) and _CODE.fullmatch(value[:400]):
            yield {"class_name": "__lambda__", "config": {}}


_MARKS = frozenset({"class_name", "function_type", "registered_name"})


def _judge(item: Mapping[str, Json], path: str, *, needed: bool) -> Iterator[Finding]:
    name, config = _text(item.get("class_name")), item.get("config")
    inner = config if isinstance(config, Mapping) else {}
    label = _text(inner.get("name")) or name
    shorts = {_short(name), _short(_text(item.get("registered_name")))}
    if name == "__lambda__" or item.get("function_type") == "lambda":
        text = "Keras configuration: holds marshalled Python bytecode"
        effect = "run Python code from the artifact"
        yield Finding("keras-lambda-code", Severity.EXECUTE, text, path, evidence=label[:200], effect=effect)
    if shorts & _RUNNING:
        yield from _running(shorts, label, _text(inner.get("filepath")) or name, path)
    if shorts & _LOOKUPS:
        yield from _vocabulary(inner, label, path)
    if shorts & {"TFOpLambda", "SlicingOpLambda"}:
        yield from judge_symbol(_text(inner.get("function")), label, path)
    elif "TensorFlowOpLayer" in shorts:
        text = f"Keras configuration: layer {label!r} holds a TensorFlow operation that was not read"
        yield Finding("keras-graph-layer", Severity.INCOMPLETE, text, path)
    if name not in _PLAIN and not shorts & _RUNNING:
        yield from _origin(item, name, path, needed=needed)


def _running(shorts: set[str], label: str, seen: str, path: str) -> Iterator[Finding]:
    """Findings about layers that run more than numbers."""
    about, seen = f"Keras configuration: layer {label!r}", seen[:200]
    if "Lambda" in shorts:
        text, effect = f"{about} runs a Python function of the file", "run Python code from the artifact"
        yield Finding("keras-lambda", Severity.EXECUTE, text, path, evidence=seen, effect=effect)
    if "TorchModuleWrapper" in shorts:
        text, effect = f"{about} unpickles a torch module", "unpickle bytes of the artifact"
        yield Finding("keras-torch-module", Severity.EXECUTE, text, path, evidence=seen, effect=effect)
    if "TFSMLayer" in shorts:
        text, effect = f"{about} loads a SavedModel from a path", "run a graph from a path that the artifact names"
        yield Finding("keras-saved-model-layer", Severity.EXECUTE, text, path, evidence=seen, effect=effect)
    if shorts & {"JaxLayer", "FlaxLayer"}:
        text, effect = f"{about} runs a function that the file names", "call a function that the artifact names"
        yield Finding("keras-jax-layer", Severity.EXECUTE, text, path, evidence=seen, effect=effect)


def _vocabulary(config: Mapping[str, Json], label: str, path: str) -> Iterator[Finding]:
    for key in _PATHS:
        value = config.get(key)
        if isinstance(value, str) and value:
            severity = Severity.NETWORK if "://" in value else Severity.READ
            text = f"Keras configuration: layer {label!r} reads its {key} from a path"
            effect = _REACHES[severity]
            yield Finding("keras-vocabulary-path", severity, text, path, evidence=value[:200], effect=effect)


def _origin(item: Mapping[str, Json], name: str, path: str, *, needed: bool) -> Iterator[Finding]:
    """Findings about where an object would be taken from."""
    module, registered = _text(item.get("module")), _text(item.get("registered_name"))
    config = item.get("config")
    function = _text(config) if name in {"function", "class_method"} and isinstance(config, str) else ""
    if name == "__typespec__":
        if module.startswith("tensorflow.") and _text(item.get("spec_name")) in _SPECS:
            return
        function = _text(item.get("spec_name"))
    symbol = function or name
    dotted = f"{module}.{symbol}"[:200] if module else symbol[:200]
    last = symbol.rpartition(".")[2]
    part = part_of(module)
    if last in _DANGEROUS:
        text = "Keras configuration: names a function that reaches outside"
        severity = _DANGEROUS[last]
        effect = _REACHES[severity]
        yield Finding("keras-dangerous-function", severity, text, path, evidence=dotted, effect=effect)
    elif ">" in name or ">" in registered:
        yield _custom("needs a class", registered if ">" in registered else name, path, needed=needed)
    elif module and part is None and not (module == "builtins" and function):
        if is_family(module):
            yield _custom("needs a package beside Keras for a class", dotted, path, needed=needed)
        else:
            text = "Keras configuration: a loader imports a module outside Keras"
            effect = "import a Python module that the artifact names"
            yield Finding("keras-foreign-module", Severity.EXECUTE, text, path, evidence=dotted, effect=effect)
    elif part is not None and not has_part(part):
        text = "Keras configuration: names a part of Keras that reads, writes or fetches files"
        effect = "call a function that the artifact names"
        yield Finding("keras-dangerous-function", Severity.EXECUTE, text, path, evidence=dotted, effect=effect)
    elif symbol and not (has_function(_short(symbol), part) if function else has_class(_short(symbol), part)):
        yield _custom("needs a function" if function else "needs a class", dotted, path, needed=needed)


def _custom(what: str, name: str, path: str, *, needed: bool) -> Finding:
    severity = Severity.INCOMPLETE if needed else Severity.NOTE
    text = f"Keras configuration: {what} that the file does not hold and Keras does not have"
    return Finding("keras-custom-object", severity, text, path, evidence=name[:200])


def _short(name: str) -> str:
    return name.rpartition(">")[2].rpartition(".")[2]


def _text(value: Json) -> str:
    return value[:400] if isinstance(value, str) else ""
