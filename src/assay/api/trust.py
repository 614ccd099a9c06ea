"""Whom and what to trust: scan, verify, sign, convert, and what a model is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.api.given import (
    PathLike,
    names_path,
    registry_of,
    text_of,
    version_of,
)
from assay.policy.trust import Judgement
from assay.service import signatures as signing
from assay.service import verify as verifying
from assay.service.converting import Conversion
from assay.service.scan import Scanned
from assay.settings import expanded, read_settings
from assay.spec.json import Json
from assay.spec.vulnerabilities import Check
from assay.wiring.auditing import policies_of
from assay.wiring.caching import uncached
from assay.wiring.converting import convert as convert_model
from assay.wiring.materials import Form, bill
from assay.wiring.materials import vulnerabilities as look_up
from assay.wiring.places import open_registry
from assay.wiring.scanning import Failed, scan_one
from assay.wiring.signing import judge_version, signer_of, trust_of, trusts_of


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
    out = expanded(folder)
    if names_path(reference):
        path = expanded(reference).absolute()
        return convert_model(None, str(path), out, to=to, weights_only=weights_only)
    return convert_model(registry_of(home), str(reference), out, to=to, weights_only=weights_only)


def verify(reference: str, *, home: PathLike | None = None) -> verifying.Verification:
    """Read and hash every byte of a version again.

    Raises:
        NotFound: there is no such version, or it was purged.
    """
    registry = uncached(registry_of(home))
    return verifying.verify(registry, version_of(registry, reference))


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
    registry = registry_of(home)
    version = version_of(registry, reference)
    chain = [expanded(one) for one in certificates]
    return signing.sign(registry, version, signer_of(expanded(key), chain, password=password))


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
    version = version_of(registry, reference)
    given = trust_of([expanded(one) for one in keys], [expanded(one) for one in certificates], identity=identity)
    return judge_version(registry, version, trusts_of(policies_of(settings), given))


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
    text = str(Path(reference).absolute()) if isinstance(reference, Path) else text_of("reference", reference)
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
    return look_up(text_of("reference", reference), read_settings(home=home), expanded(osv))[1]
