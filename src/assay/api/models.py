"""Models in and out: push, pull, load, open, inspect and what a registry holds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.api.given import (
    PathLike,
    claims_of,
    environment_of,
    names_path,
    plain,
    registry_of,
    text_of,
    version_of,
    warn,
)
from assay.artifact.collect import collect, tree_of
from assay.later import later
from assay.policy.policy import Gate
from assay.ports.progress import SILENT, Progress
from assay.service import browse, fetch, loading, publish
from assay.service.hub_cache import check_repo, lay_out
from assay.service.scan import admit
from assay.service.snapshots import snapshot
from assay.settings import expanded, read_settings
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference, check_alias, check_name
from assay.wiring.auditing import guard_of
from assay.wiring.converting import safe_files
from assay.wiring.examples import example_of
from assay.wiring.looking import look, open_artifact
from assay.wiring.places import AUDITS, SNAPSHOTS, open_registry

if TYPE_CHECKING:
    from assay.artifact.reader import Artifact
    from assay.environment import capture as capturing
    from assay.loaders import registry as loaders
else:
    capturing = later("assay.environment.capture")
    loaders = later("assay.loaders.registry")


def push(
    model: object,
    name: str,
    *,
    alias: str | None = None,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Json] | None = None,
    base: str | Sequence[str] | None = None,
    relation: str | None = None,
    run: str | None = None,
    note: str | None = None,
    example: object = None,
    safe: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Version:
    """Make a model an artifact and number it.

    Args:
        model: a path (``str`` or ``Path``) to a file or folder, or a live object of a framework, which is saved in the
            safest form its framework has (safetensors, skops, ONNX, ``.keras``, UBJ, LightGBM text). The environment
            is recorded for a live object, and for a path when this process has imported what the files need.
        name: the model's name, such as ``fraud/churn``.
        alias: a movable name to point at the version.
        metrics: evaluation results.
        params: training parameters: numbers, text, truth values, None, lists and dictionaries of them.
        base: what it was made from: a reference, or any name or URI, or several of them.
        relation: how, such as ``quantized-from``; fine-tuned from one, merged from several when None.
        run: URI or id of the training run.
        note: free text.
        example: inputs for the model, such as ``X[:8]``: they are kept with what the live model gives for them, so that
            ``assay rehearse`` can ask again. A pair is inputs and outputs, which files need; ``assay.Example`` states
            tolerances, too.
        safe: convert unsafe forms of a path first, each with proof; the originals are not stored.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder; as the settings say when None.

    Returns:
        The version. Content that this model already has gives its existing version; what is said about it is added.

    Raises:
        InvalidInput: the name, what is said about the model, the files or the object cannot be accepted; nothing is
            stored.
        Refused: the policy does not allow it; the message says where the files are kept.
        Conflict, StorageError: as the message says; nothing is half-visible.
    """
    check_name(text_of("name", name))
    claims = claims_of(metrics, params, base, relation, run, note)
    if alias is not None:
        check_alias(text_of("alias", alias))
    settings = read_settings(home=home, policy=policy)
    guard = guard_of(settings, warn=warn)
    kept = None if example is None else example_of(model, example)
    golden = None if kept is None else kept.to_json()
    registry = open_registry(settings, create=True)
    if isinstance(model, (str, Path)):
        files = collect(expanded(model))
        claims = replace(claims, environment=environment_of(files), example=golden)
        with safe_files(files, claims) if safe else nullcontext((files, claims)) as (chosen, said):
            return publish.push(registry, chosen, name, guard=guard, claims=said, alias=alias).version
    saver = loaders.choose_saver(model)
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        saved = saver.save(model, Path(scratch))
        claims = replace(
            claims,
            params={**plain(saved.hyperparameters), **claims.params},
            environment=capturing.capture(model, [*saved.modules, *(kept.modules if kept else ())]),
            example=golden,
        )
        files = collect(Path(scratch))
        return publish.push(registry, files, name, guard=guard, claims=claims, alias=alias).version


def pull(
    reference: str,
    folder: PathLike,
    *,
    only: str | Sequence[str] = (),
    link: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Write an artifact's files, verified, into a new or empty folder.

    What the policies ask of a pull holds here as on the command line; ``default`` asks nothing.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        folder: the destination.
        only: gitignore-style patterns of the files to write, or one such pattern; all when empty.
        link: read-only hard links to the store instead of copies.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.
        progress: hears about bytes written.

    Returns:
        The folder.

    Raises:
        Refused: the policies do not let it through; nothing is written.
        NotFound, Conflict, IntegrityError, StorageError: as the message says; nothing appears at the destination.
    """
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings, warn=warn)
    version = version_of(registry, reference)
    admit(registry, version, guard_of(settings, warn=warn), Gate.PULL, memory=registry.state / AUDITS)
    patterns = (only,) if isinstance(only, str) else only
    return fetch.pull(registry, version, expanded(folder), only=patterns, link=link, progress=progress).folder


def load(
    reference: PathLike,
    *,
    part: str | None = None,
    device: object = None,
    yanked: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> object:
    """The framework's own object for a version or a path, built without running foreign code.

    Args:
        reference: a reference, or a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``).
        part: one model of several, by the name of its file or folder; or a part beside the model (``"tokenizer"``).
        device: where a state dict or a transformers model goes, as torch names it (``"cuda"``); the framework's own
            choice, the processor's memory, when None.
        yanked: load a version although it was yanked; a warning says why it was.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Raises:
        Refused: it is not safe under the policy, or cannot be shown to be, or was yanked; the hint says the way out.
        MissingDependency: the framework is not installed; the hint says what to install.
        NotFound: no such thing, or no loader for its format.
    """
    settings = read_settings(home=home, policy=policy)
    guard = guard_of(settings, warn=warn)
    if names_path(reference):
        path = expanded(reference)
        folder = path if path.is_dir() else path.parent
        tree = tree_of(collect(path))
        return loading.load_files(
            tree, folder, guard=guard, choose=loaders.choose_loader, what=str(reference), part=part, device=device
        )
    registry = open_registry(settings, warn=warn)
    version = version_of(registry, str(reference))
    snapshots = registry.state / SNAPSHOTS
    return loading.load(
        registry,
        version,
        guard=guard,
        choose=loaders.choose_loader,
        snapshots=snapshots,
        part=part,
        device=device,
        yanked=yanked,
    )


def hub_cache(
    reference: str,
    folder: PathLike,
    *,
    repo: str | None = None,
    yanked: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> str:
    """Show a version to the libraries around the Hugging Face hub: in a cache of theirs, without copying.

    ``from_pretrained(name, cache_dir=folder, local_files_only=True)`` finds it there, as does any program with
    ``HF_HUB_CACHE=folder`` and ``HF_HUB_OFFLINE=1``. ``main``, the version's number and the alias by which it was asked
    for are its revisions.

    Args:
        reference: a reference.
        folder: the cache, made when it is not there; versions and models gather in it.
        repo: what the libraries shall call it (``ORG/NAME``); the model's name when None.
        yanked: show a version although it was yanked.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Returns:
        The name.

    Raises:
        Refused: as for ``load``: what the libraries load, they unpickle.
        InvalidInput: the name cannot be a repository's (code ``bad-repo``).
        StorageError: the cache cannot be written.
    """
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings, warn=warn)
    version = version_of(registry, reference)
    name = check_repo(version.name if repo is None else repo)
    label = Reference.parse(reference).label
    guard = guard_of(settings, warn=warn)
    manifest, _ = loading.judged(registry, version, guard=guard, yanked=yanked)
    refs = {"main", str(version.number), *({label} if label else ())}
    with snapshot(registry.blobs, manifest, registry.state / SNAPSHOTS) as files:
        lay_out(files, manifest, expanded(folder), name, refs=sorted(refs))
    return name


def open(reference: PathLike, *, home: PathLike | None = None) -> Artifact:  # noqa: A001 - assay.open is the name
    """The lazy artifact: description, files, and tensors that are read when they are indexed.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if names_path(reference):
        return open_artifact(None, str(reference))
    return open_artifact(registry_of(home), str(reference))


def inspect(reference: PathLike, *, home: PathLike | None = None) -> Inspection:
    """What a version or a path holds, understood without running it.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if names_path(reference):
        return look(None, str(reference))[1]
    return look(registry_of(home), str(reference))[1]


def versions(name: str, *, home: PathLike | None = None) -> Sequence[Version]:
    """A model's versions, newest first; empty when there is no such model.

    Raises:
        InvalidInput: it cannot be a model's name.
    """
    return registry_of(home).catalog.versions(check_name(text_of("name", name)))


def show(reference: str, *, home: PathLike | None = None) -> dict[str, Json]:
    """One version's card, as ``assay show --json`` prints it.

    Raises:
        NotFound: there is no such version.
    """
    registry = registry_of(home)
    return browse.show(registry, version_of(registry, reference))
