"""Write the table of globals a pickle may name, by looking at the libraries that are installed.

Run it once per set of library versions and merge: ``python tools/allowed_globals.py [--merge] FILE``. With ``--merge``
the pairs of the file are kept, so that one table serves every version it was made with (they are listed in it).

What is taken, and why it is harmless:

- scikit-learn: estimators and the helper classes fitted ones hold (losses, links, kernels, splitters, scorers, trees).
  They are made empty and given attributes; classes with ``__del__`` or an unknown ``__setstate__`` are left out.
- functions as values: metrics, score functions and numpy and scipy universal functions compute on arrays and do nothing
  else. Functions that open, import, call or evaluate what they are given are never taken.
- XGBoost and LightGBM wrappers and boosters: their state goes to the same native parser as their model files.

Left out on purpose: ``operator``, ``getattr``, everything in ``sklearn.datasets`` and
``sklearn.utils`` that is not named here, ``joblib`` but its array wrapper, frozen scipy distributions (they evaluate
source text kept in their state), pipelines' caches (``joblib.Memory``).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pickle
import pickletools
import pkgutil
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.audit.globals import canonical_module

Globals = dict[str, dict[str, set[str]]]

SKIPPED = (
    "tests",
    "conftest",
    "_testing",
    "externals",
    "datasets",
    "_build_utils",
    "estimator_checks",
    "_mocking",
    "callback",
    "_plot",
    "inspection",
    "parallel",
    "_repr_html",
    "_pprint",
    "frozen_",
    "experimental",
    "show_versions",
)
HELPERS = {
    "sklearn._loss.link": ["Interval"],
    "sklearn.calibration": ["_CalibratedClassifier", "_TemperatureScaling"],
    "sklearn.cluster._birch": ["_CFNode", "_CFSubcluster"],
    "sklearn.cluster._bisect_k_means": ["_BisectingTree"],
    "sklearn.compose._column_transformer": ["make_column_selector"],
    "sklearn.ensemble._hist_gradient_boosting.predictor": ["TreePredictor"],
    "sklearn.gaussian_process.kernels": ["Hyperparameter"],
    "sklearn.impute._iterative": ["_ImputerTriplet"],
    "sklearn.linear_model._linear_loss": ["LinearModelLoss"],
    "sklearn.model_selection._search": ["ParameterGrid"],
    "sklearn.model_selection._split": ["_CVIterableWrapper"],
    "sklearn.utils._bunch": ["Bunch"],
    "sklearn.utils._encode": ["MissingValues", "_nandict"],
    "sklearn.utils._metadata_requests": ["MetadataRequest", "MethodMetadataRequest"],
}
BASES = {
    "sklearn._loss.link": ["BaseLink"],
    "sklearn._loss.loss": ["BaseLoss"],
    "sklearn.gaussian_process.kernels": ["Kernel"],
    "sklearn.metrics._scorer": ["_BaseScorer", "_MultimetricScorer", "_PassthroughScorer"],
    "sklearn.model_selection._split": ["BaseCrossValidator", "BaseShuffleSplit", "_RepeatedSplits"],
    "sklearn.neural_network._stochastic_optimizers": ["BaseOptimizer"],
    "sklearn.ensemble._gb_losses": ["LossFunction"],
}
COMPILED_BASES = {
    "sklearn._loss._loss": ["CyHalfMultinomialLoss", "CyLossFunction"],
    "sklearn.linear_model._sgd_fast": ["LossFunction", "Regression", "Classification"],
}
SPACES = {
    "sklearn.metrics._dist_metrics": "DistanceMetric",
    "sklearn.neighbors._ball_tree": "BallTree",
    "sklearn.neighbors._kd_tree": "KDTree",
}
SETSTATE = {"BaseEstimator", "IsotonicRegression", "TreePredictor", "Bunch"}
FUNCTIONS = {
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.decomposition._fastica": "_cube _exp _logcosh",
    "sklearn.feature_selection": (
        "chi2 f_classif f_oneway f_regression mutual_info_classif mutual_info_regression r_regression"
    ),
    "sklearn.preprocessing": (
        "add_dummy_feature binarize maxabs_scale minmax_scale normalize power_transform quantile_transform "
        "robust_scale scale"
    ),
    "numpy": (
        "all any around asarray average clip max mean median min nan_to_num nanmax nanmean nanmedian nanmin nansum "
        "prod ptp ravel round squeeze std sum var"
    ),
    "sklearn.utils.validation": "check_array column_or_1d",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
}
PLAIN = {
    "construct": {
        "argparse": ["Namespace"],
        "scipy.interpolate._bsplines": ["BSpline"],
        "uuid": ["UUID"],
    },
    "value": {
        "builtins": ["int", "object", "str"],
        "numpy": ["generic", "matrix", "memmap", "ndarray"],
        "numpy.ma": ["MaskedArray"],
        "numpy.ma.core": ["MaskedArray"],
        "numpy.random._mt19937": ["MT19937"],
        "numpy.random._pcg64": ["PCG64", "PCG64DXSM"],
        "numpy.random._philox": ["Philox"],
        "numpy.random._sfc64": ["SFC64"],
        "numpy.random.bit_generator": ["SeedSequence"],
    },
}
SPARSE = ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"]


def named(value: object) -> tuple[str, str]:
    """The pair by which a pickle names a class or function."""
    for code, argument, _ in pickletools.genops(pickle.dumps(value, 2)):
        if code.name == "GLOBAL":
            module, name = str(argument).split(" ")
            return module, name
    raise ValueError(value)


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of a package that imports and is not skipped."""
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if any(word in found.name for word in SKIPPED):
            continue
        try:
            yield importlib.import_module(found.name)
        except ImportError:
            continue


def classes_of(table: dict[str, list[str]]) -> tuple[type, ...]:
    """The classes a table of module and names means, those that this version has."""
    return tuple(
        value
        for module, names in table.items()
        for name in names
        if isinstance(value := getattr(optional(module), name, None), type)
    )


def optional(module: str) -> ModuleType | None:
    """A module, or None when this version does not have it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def harmless(cls: type) -> bool:
    """Whether neither making, nor giving state to, nor dropping an instance does anything unexpected."""
    if any("__del__" in vars(base) for base in cls.__mro__):
        return False
    setters = [base.__name__ for base in cls.__mro__ if "__setstate__" in vars(base)]
    return not inspect.isabstract(cls) and all(name in SETSTATE for name in setters)


def scikit_learn(found: Globals) -> None:
    """Estimators, what they hold, and functions they may be told to use."""
    from sklearn.base import BaseEstimator

    bases = (BaseEstimator, *classes_of(BASES))
    compiled = classes_of(COMPILED_BASES)
    helpers = set(classes_of(HELPERS))
    for module in modules("sklearn"):
        for name, value in vars(module).items():
            if not isinstance(value, type) or (value.__module__, value.__qualname__) != (module.__name__, name):
                continue
            if (issubclass(value, bases) or value in helpers) and harmless(value):
                found["construct"][module.__name__].add(name)
            elif issubclass(value, compiled):
                found["call"][module.__name__].add(name)
                pickler = f"__pyx_unpickle_{name}"
                if hasattr(module, pickler):
                    found["call"][module.__name__].add(pickler)
            elif module.__name__ in SPACES and "PyFunc" not in name:
                space = SPACES[module.__name__]
                if space in {base.__name__.rstrip("0123456789") for base in value.__mro__}:
                    found["construct"][module.__name__].add(name)
    metrics = [importlib.import_module("sklearn.metrics"), importlib.import_module("sklearn.metrics.pairwise")]
    for module in metrics:
        for value in vars(module).values():
            ours = inspect.isfunction(value) and value.__module__.startswith("sklearn.metrics")
            if ours and not value.__name__.startswith(("_", "get_", "make_", "check_", "pairwise_distances_chunked")):
                add(found, "value", value)


def functions(found: Globals) -> None:
    """Functions as values: the hand list, universal functions and number types."""
    import numpy as np
    import scipy.special

    for module, names in FUNCTIONS.items():
        for name in names.split():
            value = getattr(optional(module), name, None)
            if value is not None:
                add(found, "value", value)
    for module in (np, scipy.special):
        for value in list(vars(module).values()):
            if isinstance(value, np.ufunc):
                add(found, "value", value)
    for value in set(np.sctypeDict.values()):
        add(found, "value", value)
    for kind in SPARSE:
        module = importlib.import_module(f"scipy.sparse._{kind}")
        for form in ("matrix", "array"):
            if hasattr(module, f"{kind}_{form}"):
                found["construct"][module.__name__].add(f"{kind}_{form}")


def boosters(found: Globals) -> None:
    """Wrappers and boosters of XGBoost and LightGBM, where installed."""
    from sklearn.base import BaseEstimator

    for package, inner in (("xgboost", "core"), ("lightgbm", "basic")):
        module = optional(f"{package}.sklearn")
        if module is None:
            continue
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__ and issubclass(value, BaseEstimator):
                found["construct"][module.__name__].add(name)
        found["construct"][f"{package}.{inner}"].add("Booster")


def add(found: Globals, role: str, value: Any) -> None:
    """Take a value under the name a pickle gives it."""
    try:
        module, name = named(value)
    except (ValueError, pickle.PicklingError, AttributeError, TypeError):
        return
    # A partial or an instance pickles as its class's name: what the pair leads to must be the value itself.
    if "." not in name and getattr(importlib.import_module(module), name, None) is value:
        found[role][canonical_module(module)].add(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--merge", action="store_true", help="keep the pairs that the file already has")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: Globals = {role: defaultdict(set) for role in ("construct", "call", "value")}
    versions: dict[str, set[str]] = defaultdict(set)
    if options.merge:
        before = json.loads(options.file.read_text("utf-8"))
        for role, table in before["roles"].items():
            for module, names in table.items():
                found[role][module].update(names)
        for library, known in before["versions"].items():
            versions[library].update(known)
    for role, table in PLAIN.items():
        for module, names in table.items():
            found[role][module].update(names)
    scikit_learn(found)
    functions(found)
    boosters(found)
    for library in ("sklearn", "numpy", "scipy", "xgboost", "lightgbm"):
        module = optional(library)
        if module is not None:
            versions[library].add(module.__version__)
    document = {
        "comment": "written by tools/allowed_globals.py; exact pairs; assay/audit/globals.py says what the roles are",
        "loader": True,
        "versions": {library: sorted(known) for library, known in sorted(versions.items())},
        "roles": {
            role: {module: sorted(names) for module, names in sorted(table.items()) if names}
            for role, table in found.items()
        },
    }
    options.file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print({role: sum(map(len, table.values())) for role, table in found.items()})


if __name__ == "__main__":
    main()
