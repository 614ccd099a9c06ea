"""The description of a file of estimators: what the graph's parts, tensors and embedded models say together.

Shared by pickle, joblib and skops.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.containers.pickle.values import Call
from assay.formats.boosting.tabular import feature_ports
from assay.formats.pickles import boosters as embedded_boosters
from assay.formats.pickles.arrays import Arrays, scalar_of
from assay.formats.pickles.boosters import Embedded
from assay.formats.pickles.estimators import Reader, attributes_of, class_of, dtype_of_values, is_estimator, mapping_of
from assay.formats.pickles.tensors import Index
from assay.formats.pytorch.graph import DISTRIBUTIONS
from assay.spec.description import Component, Description, Port
from assay.spec.finding import Finding
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Window

MAX_PARTS = 64
"""Parts of a plain dict or list that are shown."""
MAX_SETTINGS = 500
MAX_CLASSES = 100

_DISTRIBUTIONS = {
    **DISTRIBUTIONS,
    "imblearn": "imbalanced-learn",
    "sklearn_pandas": "sklearn-pandas",
    "skopt": "scikit-optimize",
}
_FRAMEWORKS = {
    "sklearn": "scikit-learn", "lightgbm": "lightgbm", "xgboost": "xgboost", "catboost": "catboost", "torch": "pytorch",
    "keras": "keras", "tensorflow": "tensorflow", "imblearn": "imbalanced-learn", "statsmodels": "statsmodels",
    "spacy": "spacy", "gensim": "gensim", "transformers": "transformers", "pandas": "pandas", "skorch": "skorch",
}  # fmt: skip
_NOT_NEEDED = frozenset({"__builtin__", "copy_reg", "__main__", "__mp_main__", ""})
_INNER = ("best_estimator_", "estimator_", "estimator", "base_estimator", "regressor_", "classifier_")
_TASKS_BY_MODULE = {
    "cluster": "clustering",
    "mixture": "density-estimation",
    "decomposition": "dimensionality-reduction",
    "manifold": "dimensionality-reduction",
    "feature_extraction": "feature-extraction",
    "preprocessing": "feature-preprocessing",
    "impute": "feature-preprocessing",
    "covariance": "outlier-detection",
}
_OUTLIERS = frozenset({"IsolationForest", "OneClassSVM", "LocalOutlierFactor", "SGDOneClassSVM", "EllipticEnvelope"})
_CONTAINERS = frozenset({"builtins", "__builtin__", "collections", "array", "datetime"})
"""Modules whose objects hold values: no architecture."""

_TEXT_STEPS = frozenset({"TfidfVectorizer", "CountVectorizer", "HashingVectorizer"})


@dataclass(slots=True)
class Story:
    """Fields of a description, as far as a graph can fill them."""

    framework: str | None = None
    framework_version: str | None = None
    architecture: str | None = None
    task: str | None = None
    parameter_count: int | None = None
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    hyperparameters: dict[str, Json] = field(default_factory=dict)
    components: tuple[Component, ...] = ()
    requirements: tuple[str, ...] = ()
    metadata: dict[str, Json] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def description(self, format_name: str, paths: tuple[str, ...], specs: tuple[TensorSpec, ...]) -> Description:
        """The fields as the description of the file at *paths* with the tensors *specs*."""
        return Description(
            format=format_name,
            paths=paths,
            framework=self.framework,
            framework_version=self.framework_version,
            architecture=self.architecture,
            task=self.task,
            tensors=specs,
            parameter_count=self.parameter_count,
            inputs=self.inputs,
            outputs=self.outputs,
            hyperparameters=self.hyperparameters,
            components=self.components,
            requirements=self.requirements,
        )


def tell(
    root: object, arrays: Arrays, graph: Index, specs: Sequence[TensorSpec], *, window: Window, modules: Iterable[str]
) -> Story:
    """What the graph under *root* says.

    Args:
        root: the graph.
        arrays: recognises its arrays.
        graph: its index.
        specs: its tensors.
        window: the bytes arrays and embedded models lie in.
        modules: every module the file names, for frameworks and requirements.
    """
    story = Story()
    reader = Reader(arrays)
    story.components = _components(root, reader)
    models, story.findings = embedded_boosters.find(graph, window)
    main = root if type(root) is Call else next((value for value in graph.objects if is_estimator(value)), None)
    if main is not None:
        _identity(story, main, top_level=main is root)
        _signature(story, main, arrays, window)
    elif isinstance(root, (dict, list, tuple)):
        story.metadata["class"] = type(root).__name__
    tops = sorted({module.partition(".")[0] for module in modules})
    versions = _versions(graph)
    if story.framework is None:
        story.framework = next((_FRAMEWORKS[top] for top in tops if top in _FRAMEWORKS and top != "pandas"), None)
        story.framework = story.framework or ("numpy" if specs and "numpy" in tops else None)
    story.framework_version = versions.get(story.framework or "")
    story.requirements = _requirements(tops, versions)
    named = [_FRAMEWORKS[top] for top in tops if top in _FRAMEWORKS]
    if named:
        story.metadata["frameworks"] = list(dict.fromkeys(named))
    for model in models:
        _embed(story, model, single=len(models) == 1)
    if story.parameter_count is None:
        plain = [spec for spec in specs if spec.trained]
        story.parameter_count = sum(spec.size for spec in plain) if plain else None
    _settings(story)
    return story


def _components(root: object, reader: Reader) -> tuple[Component, ...]:
    """The root object as one component, or the objects in a plain dict or list as several."""
    if type(root) is Call and mapping_of(root) is None:
        return (reader.component("model", root),)
    pairs = mapping_of(root)
    named: Iterable[tuple[Any, Any]] = pairs.items() if pairs is not None else ()
    if isinstance(root, (list, tuple)):
        named = [(str(at), value) for at, value in enumerate(root[:MAX_PARTS])]
    parts: list[Component] = []
    for name, value in named:
        if len(parts) >= MAX_PARTS:
            break
        if type(value) is Call and value.state is not None and not reader.is_array(value):
            parts.append(reader.component(reader.name(name), value))
    return tuple(parts)


def _identity(story: Story, main: Call, *, top_level: bool) -> None:
    kind = class_of(main)
    if kind is None:
        return
    model_like = is_estimator(main) or (top_level and kind.module not in _CONTAINERS)
    story.architecture = kind.name.rpartition(".")[2] if model_like else None
    story.framework = _FRAMEWORKS.get(kind.module.partition(".")[0])
    if story.framework is None and "_sklearn_version" in attributes_of(main):
        story.framework = "scikit-learn"


def _final(main: Call) -> Call:
    """The estimator that answers: through searches and to the last step of pipelines."""
    for _ in range(16):
        attributes = attributes_of(main)
        inner = next((attributes[key] for key in _INNER if is_estimator(attributes.get(key))), None)
        steps = attributes.get("steps")
        last = (
            steps[-1][1]
            if isinstance(steps, list) and steps and isinstance(steps[-1], (tuple, list)) and len(steps[-1]) > 1
            else None
        )
        if last is not None and is_estimator(last):
            main = last
        elif inner is not None and "classes_" not in attributes and not isinstance(attributes.get("estimators_"), list):
            main = inner
        else:
            break
    return main


def _first(main: Call) -> Call:
    """The part that sees the data first: through searches and to the first step of pipelines."""
    for _ in range(16):
        attributes = attributes_of(main)
        steps = attributes.get("steps")
        first = steps[0][1] if isinstance(steps, list) and steps and isinstance(steps[0], (tuple, list)) else None
        best = attributes.get("best_estimator_")
        following = first if is_estimator(first) else best if is_estimator(best) else None
        if following is None:
            break
        main = following
    return main


def _signature(story: Story, main: Call, arrays: Arrays, window: Window) -> None:
    final, first = _final(main), _first(main)
    attributes = attributes_of(final)
    classes = arrays.array(attributes.get("classes_"))
    kind = class_of(final)
    name = kind.name if kind else ""
    if classes is not None:
        count = classes.size
        story.task = "binary-classification" if count == 2 else "multiclass-classification"
        story.metadata["classes"] = count
        values = classes.values(window) if len(classes.shape) == 1 else None
        if values is not None and count <= MAX_CLASSES:
            story.metadata["class_names"] = [Reader(arrays).json(value) for value in values]
        story.outputs = (Port("label", dtype_of_values(classes), (None,)),)
    elif name in _OUTLIERS:
        story.task = "outlier-detection"
    elif "Classifier" in name:
        story.task = "classification"
    elif "Regress" in name or name in {"Ridge", "Lasso", "ElasticNet", "SVR", "LinearSVR", "NuSVR", "Lars"}:
        story.task = "regression"
        story.outputs = (Port("prediction", "float64", (None,)),)
    elif kind is not None and kind.module.startswith("sklearn."):
        story.task = _TASKS_BY_MODULE.get(kind.module.split(".")[1])
    story.inputs = _inputs((main, first, final), arrays, window)


def _inputs(sources: Sequence[Call], arrays: Arrays, window: Window) -> tuple[Port, ...]:
    for source in sources:
        kind = class_of(source)
        if kind is not None and kind.name in _TEXT_STEPS:
            return (Port("text", "string", (None,)),)
        attributes = attributes_of(source)
        names = arrays.array(attributes.get("feature_names_in_"))
        width = scalar_of(attributes.get("n_features_in_", attributes.get("n_features_")))
        values = names.values(window) if names is not None else None
        texts = [value for value in values or () if isinstance(value, str)]
        if texts or isinstance(width, int):
            count = width if isinstance(width, int) and width >= 0 else None
            return feature_ports(texts, ["any"] * len(texts), width=count, default="float64")
    return ()


def _versions(graph: Index) -> dict[str, str]:
    """Versions of libraries that objects in the graph record."""
    for value in graph.objects:
        version = attributes_of(value).get("_sklearn_version")
        if isinstance(version, str) and len(version) < 40:
            return {"scikit-learn": version}
    return {}


def _requirements(tops: Sequence[str], versions: dict[str, str]) -> tuple[str, ...]:
    needed = set()
    for top in tops:
        if top in sys.stdlib_module_names or top in _NOT_NEEDED or not top.isidentifier():
            continue
        distribution = _DISTRIBUTIONS.get(top, top)
        if distribution:
            version = versions.get(distribution)
            needed.add(f"{distribution}=={version}" if version else distribution)
    return tuple(sorted(needed)[:100])


def _embed(story: Story, model: Embedded, *, single: bool) -> None:
    boosters = story.metadata.setdefault("boosters", {})
    assert isinstance(boosters, dict)
    boosters[model.name[:200]] = {
        "library": model.library,
        **{key: value for key, value in model.facts.items() if isinstance(value, (int, float, str))},
    }
    if single:
        for key in ("trees", "features"):
            if model.facts.get(key) is not None:
                story.metadata[key] = model.facts[key]
        story.inputs = story.inputs if len(story.inputs) > 1 else model.inputs or story.inputs
        story.task = story.task or model.task
        story.parameter_count = model.parameter_count
        story.hyperparameters.update(model.hyperparameters)


def _settings(story: Story) -> None:
    """Hyperparameters of the root, and of pipeline steps as scikit-learn spells them (``step__name``)."""
    if len(story.components) != 1:
        return
    queue: list[tuple[str, Component]] = [("", story.components[0])]
    for prefix, part in queue:
        for name, value in part.hyperparameters.items():
            if len(story.hyperparameters) < MAX_SETTINGS:
                story.hyperparameters.setdefault(f"{prefix}{name}", value)
        if len(queue) < MAX_SETTINGS:
            queue.extend((f"{prefix}{child.name}__", child) for child in part.children)
