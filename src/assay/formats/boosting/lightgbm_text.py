"""LightGBM's text model, wherever it stands: in a file of its own or as a string inside a pickle.

    tree
    version=v4                    num_class=  num_tree_per_iteration=  max_feature_idx=  objective=  feature_names= ...
    tree_sizes=649 646 ...        bytes of each tree below; trees are skipped by these, only their first lines are read

    Tree=0
    num_leaves=5
    ...
    end of trees

    feature_importances:          name=count, most used first
    parameters:                   [key: value]
    end of parameters

    pandas_categorical:[[...]]    JSON: the categories of each categorical column

``parameter_count`` is the number of leaves (one value each; linear trees keep more, which are not counted).
Source: ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp`` of LightGBM 2 to 4.

Not here: files and groups (``lightgbm``), and ``dump_model``'s JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from assay.containers.documents import parse_json, plain
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.boosting.tabular import MAX_NAME, feature_ports, setting
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import BytesWindow, Window

MAX_HEADER = 1 << 25
"""Bytes before the first tree: names and ranges of all features."""
MAX_TAIL = 1 << 25
"""Bytes after the last tree: importances, parameters, categories."""
MAX_SCAN = 1 << 30
"""Bytes searched for trees when their sizes are not stated or wrong."""
MAX_TREES = 1_000_000
MAX_OUTPUTS = 1 << 20
"""Classes, or trees of one round, that a model may state."""

MAX_FEATURES = 1 << 28
TOP_FEATURES = 20

_CHUNK = 1 << 22
_START = re.compile(rb"(?:tree|gbdt)\r?\n(?:version=|num_class=)")
_BEGIN = re.compile(rb"\n(?=Tree=|end of trees)")
_LEAVES = re.compile(rb"Tree=\d+\r?\n(?:[a-z_]+=[^\n]{0,60}\n){0,2}?num_leaves=(\d{1,18})\s")
_ANY_TREE = re.compile(rb"(?:^|\n)Tree=\d+\r?\nnum_leaves=(\d{1,18})\s")
_PARAMETER = re.compile(r"^\[(\w{1,100}): (.*)\]\r?$", re.MULTILINE)
_TASKS = {
    "binary": "binary-classification",
    "cross_entropy": "binary-classification",
    "cross_entropy_lambda": "binary-classification",
    "multiclass": "multiclass-classification",
    "multiclassova": "multiclass-classification",
    "lambdarank": "ranking",
    "rank_xendcg": "ranking",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape"), "regression"),
    **dict.fromkeys(("gamma", "tweedie"), "regression"),
}


def recognise(head: bytes) -> bool:
    """Whether text that starts with *head* is a LightGBM model."""
    return _START.match(head) is not None


def describe_text(data: bytes, path: str = "") -> Description:
    """What a model text in memory says; *path* is the entry it came from, for messages.

    Raises:
        BadFormat: it is not a LightGBM model text.
    """
    with guarded("a LightGBM model", path):
        return describe_window(BytesWindow(data, path), (path,) if path else ())


def describe_window(window: Window, paths: tuple[str, ...]) -> Description:
    """What the model text in *window* says; what cannot be finished is a finding.

    Raises:
        BadFormat: it is not a LightGBM model text.
    """
    model = _read(window)
    header = model.header
    objective, settings = _objective(header.get("objective", ""))
    names = header.get("feature_names", "").split()
    infos = header.get("feature_infos", "").split()
    width = _integer(header.get("max_feature_idx"), -1) + 1
    classes = _integer(header.get("num_class"), 1)
    if len(names) != width:
        message = f"{len(names):,} feature names for {width:,} features"
        model.report("lightgbm-feature-count", Severity.MISLEAD, message, window.path)
    _judge(model, window)
    hyperparameters: dict[str, Json] = {**model.parameters, **settings}
    if objective:
        hyperparameters["objective"] = objective
    return Description(
        format="lightgbm",
        paths=paths,
        format_version=header.get("version") or None,
        framework="lightgbm",
        architecture=str(model.parameters.get("boosting") or "gbdt"),
        task=_TASKS.get(objective),
        parameter_count=model.leaves,
        inputs=feature_ports(names, [_dtype(info) for info in infos], width=width, default="float64"),
        outputs=(Port("prediction", "float64", (None, classes) if classes > 1 else (None,)),),
        hyperparameters=hyperparameters,
        requirements=("lightgbm",),
        metadata=_metadata(model, width, classes, infos),
        findings=tuple(model.findings),
    )


def _judge(model: _Text, window: Window) -> None:
    """Report counts that cannot be true: memory is set aside for them, or read as if they were."""
    for key in ("num_class", "num_tree_per_iteration", "max_feature_idx"):
        value = model.header.get(key, "0")
        most = MAX_FEATURES if key == "max_feature_idx" else MAX_OUTPUTS
        if not re.fullmatch(r"-?\d{1,10}", value, re.ASCII) or not -1 <= int(value) <= most:
            message = f"states {value[:40]!r} for {key}"
            model.report("lightgbm-huge-count", Severity.EXHAUST, message, window.path)
    # A leaf has a value, of a digit and a space at least.
    if model.leaves * 2 > window.size:
        message = f"states {model.leaves:,} leaves in {window.size:,} bytes"
        model.report("lightgbm-leaf-count", Severity.EXHAUST, message, window.path)


@dataclass(slots=True)
class _Text:
    """A model text as it is read."""

    header: dict[str, str] = field(default_factory=dict)
    trees: int = 0
    leaves: int = 0
    importances: list[tuple[str, float]] = field(default_factory=list)
    parameters: dict[str, Json] = field(default_factory=dict)
    categories: Json = None
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: str, severity: Severity, message: str, path: str) -> None:
        does = "use up memory, or read beyond its end" if severity is Severity.EXHAUST else ""
        self.findings.append(Finding(rule, severity, message, path, effect=does))


def _read(window: Window) -> _Text:
    data = window.read(0, _CHUNK)
    if not recognise(data):
        raise BadFormat(f"{window.path}: expected a LightGBM model text, found other bytes", path=window.path)
    begin = _BEGIN.search(data)
    if begin is None and window.size > _CHUNK:
        data = window.read(0, MAX_HEADER)
        begin = _BEGIN.search(data)
    model = _Text()
    for line in data[: begin.start() if begin else len(data)].decode("utf-8", "replace").splitlines()[1:]:
        key, equals, value = line.partition("=")
        if key:
            model.header[key] = value if equals else "1"
    if begin is None:
        model.report("lightgbm-truncated", Severity.INCOMPLETE, "the text ends before the first tree", window.path)
        return model
    end = _trees(window, begin.end(), model)
    if end is None:
        model.report("lightgbm-truncated", Severity.INCOMPLETE, "the text ends within the trees", window.path)
        return model
    if window.size - end > MAX_TAIL:
        message = f"{window.size - end:,} bytes follow the trees, {MAX_TAIL:,} were read"
        model.report("lightgbm-tail", Severity.INCOMPLETE, message, window.path)
    _tail(window.read(end, MAX_TAIL).decode("utf-8", "replace"), model, window.path)
    return model


def _trees(window: Window, begin: int, model: _Text) -> int | None:
    """Count trees and leaves; where the line behind the last tree begins, or None when it never comes."""
    sizes = [int(size) if size.isdecimal() and len(size) < 12 else -1 for size in _sizes(model)]
    end = begin + sum(sizes)
    if sizes and len(sizes) <= MAX_TREES and min(sizes) > 0 and window.read(end, 12) == b"end of trees":
        leaves, at = 0, begin
        for size in sizes:
            found = _LEAVES.match(window.read(at, min(size, 160)))
            if found is None:
                break
            leaves, at = leaves + int(found[1]), at + size
        else:
            model.trees, model.leaves = len(sizes), leaves
            return end
    if sizes:
        message = f"the {len(sizes):,} stated tree sizes do not lead from tree to tree"
        model.report("lightgbm-tree-sizes", Severity.MISLEAD, message, window.path)
    return _scan(window, begin, model)


def _sizes(model: _Text) -> list[str]:
    return model.header.get("tree_sizes", "").split()


def _scan(window: Window, begin: int, model: _Text) -> int | None:
    """Count trees by their first lines, in overlapping chunks."""
    overlap = 256
    at, stop = begin, min(window.size, begin + MAX_SCAN)
    while at < stop:
        chunk = window.read(max(begin, at - overlap), _CHUNK + overlap)
        base = max(begin, at - overlap)
        last = base + len(chunk) >= window.size
        end = chunk.find(b"end of trees")
        for found in _ANY_TREE.finditer(chunk, 0, end if end >= 0 else len(chunk)):
            # A match that ends in the overlap was seen in the chunk before; one that is cut off is seen in the next.
            if base + found.end() > at or at == begin:
                model.trees, model.leaves = model.trees + 1, model.leaves + int(found[1])
        if end >= 0:
            return base + end
        if last:
            break
        at = base + len(chunk)
    return None


def _tail(text: str, model: _Text, path: str) -> None:
    _, _, importances = text.partition("feature_importances:")
    for line in importances.partition("\n\n")[0].splitlines()[: TOP_FEATURES + 1]:
        name, equals, value = line.rpartition("=")
        weight = setting(value)
        if equals and isinstance(weight, (int, float)):
            model.importances.append((name[:MAX_NAME], float(weight)))
    parameters = text.partition("\nparameters:")[2].partition("\nend of parameters")[0]
    for found in _PARAMETER.finditer(parameters):
        if found[2]:
            model.parameters[found[1]] = setting(found[2])
    _, label, categories = text.rpartition("pandas_categorical:")
    line = categories.partition("\n")[0].strip()
    if label and line != "null":
        try:
            model.categories = plain(parse_json(line.encode("utf-8", "replace"), path).value)
        except BadFormat as error:
            model.report("lightgbm-categories", Severity.MISLEAD, f"pandas_categorical: {error.message}", path)


def _objective(line: str) -> tuple[str, dict[str, Json]]:
    """``multiclass num_class:3`` as a name and its settings."""
    words = line.split()
    pairs = (word.partition(":") for word in words[1:100])
    return (words[0][:100] if words else ""), {key: setting(value) if colon else True for key, colon, value in pairs}


def _dtype(info: str) -> str:
    """From the range a feature had: ``[low:high]``, ``none`` when it never varied, else the categories seen."""
    return "float64" if info.startswith("[") or info == "none" else "categorical"


def _integer(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text, re.ASCII) else default


def _metadata(model: _Text, width: int, classes: int, infos: list[str]) -> dict[str, Json]:
    per_round = max(1, _integer(model.header.get("num_tree_per_iteration"), 1))
    metadata: dict[str, Json] = {
        "trees": model.trees,
        "leaves": model.leaves,
        "boosted_rounds": model.trees // per_round,
        "features": width,
        "unused_features": infos.count("none"),
        "classes": classes if classes > 1 else None,
        "feature_importances": dict(model.importances[:TOP_FEATURES]) or None,
        "pandas_categorical": model.categories or None,
        "average_output": True if "average_output" in model.header else None,
    }
    return {key: value for key, value in metadata.items() if value is not None}
