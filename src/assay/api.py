"""The SDK facade: the verbs of the command line as functions. ``import assay`` gives them all."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.artifact.collect import collect, tree_of
from assay.artifact.reader import Artifact
from assay.environment.capture import capture
from assay.errors import InvalidInput
from assay.formats.registry import all_formats
from assay.loaders.registry import choose_loader, choose_saver
from assay.ports.progress import SILENT, Progress
from assay.service import browse, fetch, loading, publish
from assay.service import verify as verifying
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.settings import read_settings
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.wiring.looking import look, open_artifact
from assay.wiring.places import SNAPSHOTS, open_registry

PathLike = str | Path


def push(
    model: object,
    name: str,
    *,
    alias: str | None = None,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Json] | None = None,
    base: str | None = None,
    run: str | None = None,
    note: str | None = None,
    home: PathLike | None = None,
) -> Version:
    """Make a model an artifact and number it.

    Args:
        model: a path (``str`` or ``Path``) to a file or folder, or a live object of a framework, which is saved in the
            safest form its framework has (safetensors, skops, ONNX, ``.keras``, UBJ, LightGBM text).
        name: the model's name, such as ``fraud/churn``.
        alias: a movable name to point at the version.
        metrics: evaluation results.
        params: training parameters.
        base: what it was made from: a reference, or any name or URI.
        run: URI or id of the training run.
        note: free text.
        home: the registry's folder; as the settings say when None.

    Returns:
        The version. Content that this model already has gives its existing version; what is said about it is added.

    Raises:
        InvalidInput: the name, the files or the object cannot be accepted; nothing is stored.
        Conflict, StorageError: as the message says; nothing is half-visible.
    """
    registry = _registry(home, create=True)
    if isinstance(model, (str, Path)):
        claims = _claims(metrics, params, base, run, note, environment=None)
        files = collect(Path(model).expanduser())
        return publish.push(registry, files, name, formats=all_formats(), claims=claims, alias=alias).version
    saver = choose_saver(model)
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        saved = saver.save(model, Path(scratch))
        claims = _claims(
            metrics,
            {**_plain(saved.hyperparameters), **(params or {})},
            base,
            run,
            note,
            environment=capture(model, saved.modules),
        )
        files = collect(Path(scratch))
        return publish.push(registry, files, name, formats=all_formats(), claims=claims, alias=alias).version


def pull(
    reference: str,
    folder: PathLike,
    *,
    only: Sequence[str] = (),
    link: bool = False,
    home: PathLike | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Write an artifact's files, verified, into a new or empty folder.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        folder: the destination.
        only: gitignore-style patterns of the files to write; all when empty.
        link: read-only hard links to the store instead of copies.
        home: the registry's folder.
        progress: hears about bytes written.

    Returns:
        The folder.

    Raises:
        NotFound, Conflict, IntegrityError, StorageError: as the message says; nothing appears at the destination.
    """
    registry = _registry(home)
    version = registry.resolve(Reference.parse(reference))
    return fetch.pull(registry, version, Path(folder).expanduser(), only=only, link=link, progress=progress).folder


def load(reference: PathLike, *, part: str | None = None, home: PathLike | None = None) -> object:
    """The framework's own object for a version or a path, built without running foreign code.

    Args:
        reference: a reference, or a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``).
        part: one model of several, by the name of its file or folder; or a part beside the model (``"tokenizer"``).
        home: the registry's folder.

    Raises:
        Refused: loading would run code, or cannot be shown not to; the hint says the way out.
        MissingDependency: the framework is not installed; the hint says what to install.
        NotFound: no such thing, or no loader for its format.
    """
    if isinstance(reference, Path) or is_path(reference):
        path = Path(reference).expanduser()
        folder = path if path.is_dir() else path.parent
        return loading.load_files(
            tree_of(collect(path)), folder, formats=all_formats(), choose=choose_loader, part=part
        )
    registry = _registry(home)
    version = registry.resolve(Reference.parse(reference))
    snapshots = Path(registry.place) / SNAPSHOTS
    return loading.load(registry, version, formats=all_formats(), choose=choose_loader, snapshots=snapshots, part=part)


def open(reference: PathLike, *, home: PathLike | None = None) -> Artifact:  # noqa: A001 - assay.open is the name
    """The lazy artifact: description, files, and tensors that are read when they are indexed.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if isinstance(reference, Path) or is_path(reference):
        return open_artifact(None, str(reference))
    return open_artifact(_registry(home), reference)


def inspect(reference: PathLike, *, home: PathLike | None = None) -> Inspection:
    """What a version or a path holds, understood without running it.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if isinstance(reference, Path) or is_path(reference):
        return look(None, str(reference))[1]
    return look(_registry(home), reference)[1]


def verify(reference: str, *, home: PathLike | None = None) -> verifying.Verification:
    """Read and hash every byte of a version again.

    Raises:
        NotFound: there is no such version, or it was purged.
    """
    registry = _registry(home)
    return verifying.verify(registry, registry.resolve(Reference.parse(reference)))


def versions(name: str, *, home: PathLike | None = None) -> Sequence[Version]:
    """A model's versions, newest first; empty when there is no such model."""
    return _registry(home).catalog.versions(name)


def show(reference: str, *, home: PathLike | None = None) -> dict[str, Json]:
    """One version's card, as ``assay show --json`` prints it.

    Raises:
        NotFound: there is no such version.
    """
    registry = _registry(home)
    return browse.show(registry, registry.resolve(Reference.parse(reference)))


def _registry(home: PathLike | None, *, create: bool = False) -> Registry:
    return open_registry(read_settings(home=home), create=create)


def _claims(
    metrics: Mapping[str, float] | None,
    params: Mapping[str, Json] | None,
    base: str | None,
    run: str | None,
    note: str | None,
    *,
    environment: Mapping[str, Json] | None,
) -> Claims:
    numbers = {key: _number(key, value) for key, value in (metrics or {}).items()}
    return Claims(numbers, params or {}, base, run, note, environment)


def _number(key: str, value: float) -> float:
    """A metric as a float; numpy's and torch's scalars are numbers too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"metric {key!r} is not a finite number: {value!r}", code="bad-metric")
    return number


def _plain(hyperparameters: Mapping[str, Json]) -> dict[str, Json]:
    """The settings of a live object that say something by themselves; parts are described from the files."""
    return {
        key: value
        for key, value in hyperparameters.items()
        if isinstance(value, (bool, int, float, str)) and not (isinstance(value, str) and value.startswith("<"))
    }
