"""scikit-learn: skops files, pickles and joblib files within the allow-list; live estimators to skops."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from assay.errors import AssayError, BadFormat, CouldNot, InvalidInput, LimitExceeded, Refused
from assay.loaders.allowed import canonical_module, permitted_classes, table
from assay.loaders.allowed_calls import CLASSES
from assay.loaders.frameworks import imported, need, reason, top_modules
from assay.loaders.pickle_files import MAX_INFLATED, read_pickle
from assay.loaders.places import main_file
from assay.loaders.reproducible import settle_skops
from assay.loaders.saved_record import plain
from assay.loaders.structures import check_structures, parts
from assay.ports.loaders import Saved
from assay.spec.description import Description
from assay.spec.json import Json

SKOPS_MINIMUM = (0, 12)
"""skops before 0.12 builds other things than it lists (CVE-2025-54412, CVE-2025-54413)."""

_log = logging.getLogger(__name__)
_WAY_OUT = (
    "load it where you trust it and save it with skops.io.dump, or push the live object; "
    "until then assay.inspect and assay.pull work on it"
)


class PickleLoader:
    """Pickle and joblib files, through an unpickler that resolves an exact table of globals and runs nothing else."""

    formats: ClassVar[Sequence[str]] = ("pickle", "joblib")

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """The object the file holds.

        Raises:
            Refused: it names something outside the table (code ``unsafe-pickle``), or a fitted structure points outside
                itself (code ``unsafe-structure``).
            BadFormat: it is damaged, or made for another version of its library (code ``library-mismatch``).
            MissingDependency: its library is not installed.
        """
        file = main_file(folder, description)
        try:
            with _noted(file.name):
                return read_pickle(file, frozenset(description.globals), permitted_classes(description))
        except Refused as error:
            raise Refused(
                f"{file.name} is not loaded: {error.message}", code=error.code, hint=_WAY_OUT, **error.details
            ) from error


class SkopsLoader:
    """skops files whose types are all in the same table."""

    formats: ClassVar[Sequence[str]] = ("skops",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """The estimator.

        Raises:
            Refused: it names types outside the table (code ``unsafe-types``).
            BadFormat: skops cannot read it.
            MissingDependency: skops is not installed.
        """
        return read_skops(main_file(folder, description))


class ScikitLearnSaver:
    """Estimators and pipelines as skops."""

    framework = "scikit-learn"

    def accepts(self, model: object) -> bool:
        """An estimator: its class derives from ``sklearn.base.BaseEstimator``."""
        base = imported("sklearn.base")
        return base is not None and isinstance(model, base.BaseEstimator) and not isinstance(model, type)

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.skops`` and read it back with our own loader.

        Raises:
            InvalidInput: it holds types that we would refuse to load, or that skops cannot save (code ``unsaveable``).
            MissingDependency: skops is not installed.
        """
        skops = need("skops.io", extra="sklearn", what="save a scikit-learn model")
        file = folder / "model.skops"
        try:
            skops.dump(model, file)
            settle_skops(file)
        except Exception as error:
            raise InvalidInput(
                f"skops cannot save this {type(model).__name__} ({reason(error)})", code="unsaveable", hint=_LIVE_HINT
            ) from error
        try:
            read_skops(file)
        except AssayError as error:
            raise InvalidInput(
                f"this {type(model).__name__} could be saved but would not be loaded: {error.message}",
                code="unsaveable",
                hint=_LIVE_HINT,
                **error.details,
            ) from error
        modules = dict.fromkeys(module for part in parts(model) for module in top_modules(part))
        return Saved(("sklearn", "skops", *modules), _parameters(model))


_LIVE_HINT = (
    "replace custom functions and classes by scikit-learn's own, or save it yourself (skops, joblib) and push the "
    "path: it is then stored and described, and loading it says what it would run"
)


def read_skops(file: Path) -> object:
    """The object in a skops file, when every type in it is in the table.

    Raises:
        Refused: types outside the table (code ``unsafe-types``) or structures that point outside themselves.
        BadFormat: skops cannot read it.
        LimitExceeded: it inflates too far.
        MissingDependency: skops is not installed.
    """
    skops = need("skops.io", extra="sklearn", what="load a skops file")
    _check_version()
    with _skops_errors(file), zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_INFLATED:
        raise LimitExceeded(f"{file.name} inflates to {size:,} bytes, at most {MAX_INFLATED:,} are loaded")
    with _skops_errors(file):
        untrusted = skops.get_untrusted_types(file=file)
    outside = sorted(name for name in untrusted if not _in_table(name))
    if outside:
        shown = ", ".join(outside[:5]) + (" …" if len(outside) > 5 else "")
        raise Refused(
            f"{file.name} is not loaded: it holds types outside the allow-list: {shown}",
            code="unsafe-types",
            hint="load it with skops where you trust these types; assay.inspect shows its parts",
            types=", ".join(outside),
        )
    with _skops_errors(file), _noted(file.name):
        value: object = skops.load(file, trusted=list(untrusted))
    check_structures(parts(value))
    return value


def _check_version() -> None:
    stated = need("skops", extra="sklearn", what="load a skops file").__version__
    if tuple(int(part) for part in stated.split(".")[:2] if part.isdigit()) < SKOPS_MINIMUM:
        raise CouldNot(
            f"skops {stated} does not load safely: it can build other types than it lists (CVE-2025-54412)",
            code="unsafe-library",
            hint="pip install 'skops>=0.12'",
        )


@contextmanager
def _skops_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise BadFormat(f"skops cannot read {file.name} ({reason(error)})", path=file.name) from error


def _in_table(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    pair = (canonical_module(module), attribute)
    return pair in table() or pair in CLASSES or pair in _SKOPS_ONLY


_SKOPS_ONLY = frozenset(
    {
        ("functools", "partial"),
        ("sklearn.tree._tree", "Tree"),
        ("sklearn.metrics._dist_metrics", "newObj"),
        ("sklearn.neighbors._kd_tree", "newObj"),
        ("sklearn.neighbors._ball_tree", "newObj"),
    }
)
# Types that the unpickler has stand-ins for, and skops builds by nodes of its own.


@contextmanager
def _noted(name: str) -> Iterator[None]:
    """Turn warnings about library versions into log lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught):
        _log.warning("%s: %s", name, text[:300])


def _parameters(model: object) -> dict[str, Json]:
    get = getattr(model, "get_params", None)
    if get is None:
        return {}
    # Nested estimators are named by their class; their settings follow as step__name.
    return {str(key): plain(value) for key, value in get(deep=True).items()}
