"""The SDK facade: the verbs of the command line as functions. ``import assay`` gives them all."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.artifact.collect import collect, tree_of
from assay.artifact.reader import Artifact
from assay.environment.capture import capture
from assay.environment.modules import imported_for
from assay.errors import InvalidInput
from assay.formats.registry import all_formats
from assay.loaders.registry import choose_loader, choose_saver
from assay.policy.trust import Judgement
from assay.ports.progress import SILENT, Progress
from assay.service import browse, fetch, loading, publish
from assay.service import signatures as signing
from assay.service import verify as verifying
from assay.service.converting import Conversion
from assay.service.examine import inspect as look_at
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.service.scan import Scanned
from assay.settings import read_settings
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference, check_alias, check_name, is_path
from assay.spec.vulnerabilities import Check
from assay.wiring.auditing import guard_of, policies_of
from assay.wiring.converting import convert as convert_model
from assay.wiring.converting import safe_files
from assay.wiring.looking import look, open_artifact
from assay.wiring.materials import Form, bill
from assay.wiring.materials import vulnerabilities as look_up
from assay.wiring.places import SNAPSHOTS, open_registry
from assay.wiring.scanning import Failed, scan_one
from assay.wiring.signing import judge_version, signer_of, trust_of, trusts_of

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
        base: what it was made from: a reference, or any name or URI.
        run: URI or id of the training run.
        note: free text.
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
    check_name(_text("name", name))
    claims = _claims(metrics, params, base, run, note)
    if alias is not None:
        check_alias(_text("alias", alias))
    settings = read_settings(home=home, policy=policy)
    guard = guard_of(settings, warn=_warn)
    registry = open_registry(settings, create=True)
    if isinstance(model, (str, Path)):
        files = collect(Path(model).expanduser())
        claims = replace(claims, environment=_environment(files))
        with safe_files(files, claims) if safe else nullcontext((files, claims)) as (chosen, said):
            return publish.push(registry, chosen, name, guard=guard, claims=said, alias=alias).version
    saver = choose_saver(model)
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        saved = saver.save(model, Path(scratch))
        claims = replace(
            claims,
            params={**_plain(saved.hyperparameters), **claims.params},
            environment=capture(model, saved.modules),
        )
        files = collect(Path(scratch))
        return publish.push(registry, files, name, guard=guard, claims=claims, alias=alias).version


def convert(
    reference: PathLike,
    folder: PathLike,
    *,
    to: str,
    weights_only: bool = False,
    home: PathLike | None = None,
) -> Conversion:
    """Write the same model in a safe form into a new folder, proved to be equal.

    Args:
        reference: a reference, or a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``).
        folder: where to; new or empty.
        to: ``safetensors``, ``skops``, ``keras``, ``ubj`` or ``onnx``.
        weights_only: keep the model's tensors and drop what has no safe form.
        home: the registry's folder.

    Returns:
        What was converted (``steps``), what stays as it was and why (``kept``), and the ``record`` of the proof.

    Raises:
        InvalidInput: nothing here converts to it, or something would be lost (code ``not-convertible``).
        IntegrityError: a result is not the same model (code ``not-equal``).
        Refused: it would have to run foreign code.
        MissingDependency, NotFound, Conflict, StorageError: as the message says; nothing appears at *folder*.
    """
    out = Path(folder).expanduser()
    if _is_path(reference):
        path = Path(reference).expanduser().absolute()
        return convert_model(None, str(path), out, to=to, weights_only=weights_only)
    return convert_model(_registry(home), str(reference), out, to=to, weights_only=weights_only)


def pull(
    reference: str,
    folder: PathLike,
    *,
    only: str | Sequence[str] = (),
    link: bool = False,
    home: PathLike | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Write an artifact's files, verified, into a new or empty folder.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        folder: the destination.
        only: gitignore-style patterns of the files to write, or one such pattern; all when empty.
        link: read-only hard links to the store instead of copies.
        home: the registry's folder.
        progress: hears about bytes written.

    Returns:
        The folder.

    Raises:
        NotFound, Conflict, IntegrityError, StorageError: as the message says; nothing appears at the destination.
    """
    registry = _registry(home)
    version = _version(registry, reference)
    patterns = (only,) if isinstance(only, str) else only
    return fetch.pull(registry, version, Path(folder).expanduser(), only=patterns, link=link, progress=progress).folder


def load(
    reference: PathLike, *, part: str | None = None, policy: PathLike | None = None, home: PathLike | None = None
) -> object:
    """The framework's own object for a version or a path, built without running foreign code.

    Args:
        reference: a reference, or a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``).
        part: one model of several, by the name of its file or folder; or a part beside the model (``"tokenizer"``).
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Raises:
        Refused: it is not safe under the policy, or cannot be shown to be; the hint says the way out.
        MissingDependency: the framework is not installed; the hint says what to install.
        NotFound: no such thing, or no loader for its format.
    """
    settings = read_settings(home=home, policy=policy)
    guard = guard_of(settings, warn=_warn)
    if _is_path(reference):
        path = Path(reference).expanduser()
        folder = path if path.is_dir() else path.parent
        tree = tree_of(collect(path))
        return loading.load_files(tree, folder, guard=guard, choose=choose_loader, what=str(reference), part=part)
    registry = open_registry(settings)
    version = _version(registry, str(reference))
    snapshots = settings.home / SNAPSHOTS
    return loading.load(registry, version, guard=guard, choose=choose_loader, snapshots=snapshots, part=part)


def scan(
    reference: PathLike, *, policy: PathLike | None = None, fresh: bool = False, home: PathLike | None = None
) -> Scanned:
    """Say what loading would do, without running any of it.

    Args:
        reference: a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``), a reference, or
            ``oci:DIR[:TAG]``.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        fresh: read everything again, also what was read with these rules before.
        home: the registry's folder.

    Returns:
        ``decision.verdict`` is ``safe``, ``unsafe`` or ``unverified``; ``decision.summary`` says it in a sentence;
        ``decision.judged`` and ``report`` hold every finding. The report of a version is recorded beside it.

    Raises:
        NotFound, InvalidInput, StorageError: it cannot be looked at.
    """
    settings = read_settings(home=home, policy=policy)
    outcome = scan_one(str(reference), settings, paths=isinstance(reference, Path), fresh=fresh)
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


def open(reference: PathLike, *, home: PathLike | None = None) -> Artifact:  # noqa: A001 - assay.open is the name
    """The lazy artifact: description, files, and tensors that are read when they are indexed.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if _is_path(reference):
        return open_artifact(None, str(reference))
    return open_artifact(_registry(home), str(reference))


def inspect(reference: PathLike, *, home: PathLike | None = None) -> Inspection:
    """What a version or a path holds, understood without running it.

    Args:
        reference: a reference, or a path.
        home: the registry's folder.

    Raises:
        NotFound: there is no such thing.
    """
    if _is_path(reference):
        return look(None, str(reference))[1]
    return look(_registry(home), str(reference))[1]


def bill_of_materials(
    reference: PathLike, *, form: Form = "cyclonedx", attach: bool = False, home: PathLike | None = None
) -> dict[str, Json]:
    """What a version or files consist of and come from, as far as it was observed.

    Args:
        reference: a reference, or a path (a ``Path``, or text that starts with ``/``, ``.`` or ``~``).
        form: ``cyclonedx`` (1.6), ``spdx`` (3.0.1), or ``slsa``: an in-toto statement with SLSA provenance v1.
        attach: whether to keep the document beside the version as well.
        home: the registry's folder.

    Returns:
        The document. The same facts give the same document.

    Raises:
        NotFound: there is no such thing.
        InvalidInput: there is no such form, or plain files cannot have anything attached.
    """
    text = str(Path(reference).absolute()) if isinstance(reference, Path) else _text("reference", reference)
    return bill(text, read_settings(home=home), form=form, attach=attach).document


def vulnerabilities(reference: str, osv: PathLike, *, home: PathLike | None = None) -> Check:
    """Look up what a version was made with among known vulnerabilities, without a network.

    Args:
        reference: a reference.
        osv: an export of the OSV database: a folder or a zip archive of JSON records.
        home: the registry's folder.

    Raises:
        NotFound: no such version or export, or no environment was recorded (code ``no-environment``).
        InvalidInput: the export holds no record about Python distributions (code ``no-osv-records``).
    """
    return look_up(_text("reference", reference), read_settings(home=home), Path(osv).expanduser())[1]


def verify(reference: str, *, home: PathLike | None = None) -> verifying.Verification:
    """Read and hash every byte of a version again.

    Raises:
        NotFound: there is no such version, or it was purged.
    """
    registry = _registry(home)
    return verifying.verify(registry, _version(registry, reference))


def sign(
    reference: str,
    key: PathLike,
    *,
    certificates: Sequence[PathLike] = (),
    password: str | None = None,
    home: PathLike | None = None,
) -> signing.Signed:
    """Sign a version from its manifest, without reading its files; the signatures are kept beside it.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        key: file with the private key (PEM).
        certificates: files with the key's certificate first (PEM); none for a bare key.
        password: of the key; as ``ASSAY_KEY_PASSWORD`` says when None.
        home: the registry's folder.

    Raises:
        MissingDependency: the library for keys is not installed.
        NotFound, InvalidInput: there is no such version or file, or it is not such a key.
    """
    registry = _registry(home)
    version = _version(registry, reference)
    chain = [Path(one).expanduser() for one in certificates]
    return signing.sign(registry, version, signer_of(Path(key).expanduser(), chain, password=password))


def signatures(
    reference: str,
    *,
    keys: Sequence[PathLike] = (),
    certificates: Sequence[PathLike] = (),
    identity: str = "",
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Judgement:
    """What a version's signatures are worth. Whether its bytes are still those that were signed, ``verify`` says.

    Args:
        reference: a reference.
        keys: files with public keys, one of which (or of the certificates) must have signed.
        certificates: files with root certificates.
        identity: whom the signing certificate must name.
        policy: as for ``scan``; what it requires must be met, too.
        home: the registry's folder.

    Returns:
        ``ok``, the ``problems``, and every signature as one of ``checks``.

    Raises:
        NotFound, InvalidInput: there is no such version or file, or it is not such a key.
    """
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings)
    version = _version(registry, reference)
    given = trust_of(
        [Path(one).expanduser() for one in keys], [Path(one).expanduser() for one in certificates], identity=identity
    )
    return judge_version(registry, version, trusts_of(policies_of(settings), given))


def versions(name: str, *, home: PathLike | None = None) -> Sequence[Version]:
    """A model's versions, newest first; empty when there is no such model.

    Raises:
        InvalidInput: it cannot be a model's name.
    """
    return _registry(home).catalog.versions(check_name(_text("name", name)))


def show(reference: str, *, home: PathLike | None = None) -> dict[str, Json]:
    """One version's card, as ``assay show --json`` prints it.

    Raises:
        NotFound: there is no such version.
    """
    registry = _registry(home)
    return browse.show(registry, _version(registry, reference))


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _registry(home: PathLike | None, *, create: bool = False) -> Registry:
    return open_registry(read_settings(home=home), create=create)


def _claims(
    metrics: Mapping[str, float] | None,
    params: Mapping[str, Json] | None,
    base: str | None,
    run: str | None,
    note: str | None,
) -> Claims:
    said = {"base": base, "run": run, "note": note}
    base, run, note = (None if value is None else _text(what, value) for what, value in said.items())
    numbers = {key: _number(key, value) for key, value in _named("metrics", metrics).items()}
    return Claims(
        numbers, {key: _param(key, value) for key, value in _named("params", params).items()}, base, run, note
    )


def _named(what: str, values: object) -> Mapping[str, Any]:
    """What was given under names, when it is that."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(key, str) and key.strip() for key in values):
        raise InvalidInput(
            f"{what} are not named values: {values!r:.80}", code="wrong-type", hint=f"{what}={{'name': value}}"
        )
    return values


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"the {what} is a {type(value).__name__}, expected text", code="wrong-type")
    return value


def _param(name: str, value: object) -> Json:
    """A training parameter as a statement keeps it; numpy's scalars and arrays and paths are understood.

    Raises:
        InvalidInput: it has no JSON form (code ``bad-param``).
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (list, tuple)):
        return [_param(name, one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _param(name, one) for key, one in value.items()}
    raise InvalidInput(
        f"parameter {name!r} holds a {type(value).__name__}, which has no form as JSON",
        code="bad-param",
        hint=f"params={{{name!r}: str(value)}} keeps it as text",
    )


def _is_path(reference: object) -> bool:
    return isinstance(reference, Path) or is_path(_text("reference", reference))


def _version(registry: Registry, reference: str) -> Version:
    return registry.resolve(Reference.parse(_text("reference", reference)))


def _number(key: str, value: float) -> float:
    """A metric as a float; numpy's and torch's scalars are numbers too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"metric {key!r} is not a finite number: {value!r}", code="bad-metric")
    return number


def _environment(files: Mapping[str, Path]) -> Mapping[str, Json] | None:
    """What this process is, when it uses what the files need: then it is the one that made or checked the model."""
    needed = look_at(tree_of(files), all_formats()).summary().get("requirements", ())
    packages = imported_for(str(name) for name in needed) if isinstance(needed, list) else ()
    return capture(None, packages) if packages else None


def _plain(hyperparameters: Mapping[str, Json]) -> dict[str, Json]:
    """The settings of a live object that say something by themselves; parts are described from the files."""
    return {
        key: value
        for key, value in hyperparameters.items()
        if isinstance(value, (bool, int, float, str)) and not (isinstance(value, str) and value.startswith("<"))
    }
