"""Putting signing together: keys and certificates from files, and the trust that holds here.

The cryptography is an optional library and is imported when a key is: without keys, signatures are listed, not checked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from assay.artifact.collect import collect
from assay.errors import InvalidInput, MissingDependency, NotFound, StorageError, VerificationFailed
from assay.policy.policy import Policy
from assay.policy.trust import NO_TRUST, Judgement, Requirement, Trust, TrustedKey, join, judge_signers
from assay.ports.progress import SILENT, Progress
from assay.ports.signing import Signer, Verifier
from assay.service import signatures
from assay.service.registry import Registry
from assay.spec.bundle import MAX_BUNDLE
from assay.spec.digest import Digest
from assay.spec.records import Version

PASSWORD = "ASSAY_KEY_PASSWORD"  # noqa: S105 - the name of a variable
"""Environment variable with the password of an encrypted private key."""
_MAX_TRUSTED = 1 << 20


def signer_of(key: Path, certificates: Sequence[Path] = (), *, password: str | None = None) -> Signer:
    """Who signs with a private key.

    Args:
        key: PEM file.
        certificates: PEM files with the key's certificate first; a bare key when empty.
        password: of the key; as the environment says when None.

    Raises:
        MissingDependency: the library for keys is not installed.
        NotFound, InvalidInput: a file is not there, or not what it must be.
    """
    secret = password if password is not None else os.environ.get(PASSWORD)
    keys = _room("keys")
    private = keys.read_private_key(key, secret.encode() if secret else None)
    if not certificates:
        signer: Signer = keys.KeySigner(private)
        return signer
    room = _room("certificates")
    certified: Signer = room.CertificateSigner(private, room.read_certificates(certificates))
    return certified


def keyless_signer() -> Signer:
    """Who signs with the identity of this machine or person, as Sigstore's services confirm it; needs a network.

    Raises:
        MissingDependency: the library for Sigstore is not installed.
        StorageError: its services cannot be reached (code ``sigstore-unreachable``).
    """
    signer: Signer = _room("keyless").KeylessSigner()
    return signer


def new_key(path: Path, *, password: str | None = None) -> Path:
    """Make a key pair; where the public key is.

    Raises:
        MissingDependency, Conflict, StorageError: as the message says.
    """
    secret = password if password is not None else os.environ.get(PASSWORD)
    public: Path = _room("keys").make_key(path, secret.encode() if secret else None)
    return public


def trust_of(keys: Sequence[Path], chains: Sequence[Path] = (), *, identity: str = "", issuer: str = "") -> Trust:
    """Trust in some public keys and root certificates, of which one must have signed.

    Args:
        keys: PEM files.
        chains: PEM files with root certificates.
        identity: whom a certificate must name.
        issuer: trust keyless signatures, too, of that identity as this service confirmed it.

    Raises:
        NotFound, StorageError: a file cannot be read.
        InvalidInput: an identity is asked for, and there are no certificates that could name one; or only an issuer.
    """
    if issuer and not identity:
        raise InvalidInput("an issuer confirms anybody: say whose identity counts", code="bad-certificate")
    if identity and not chains and not issuer:
        raise InvalidInput(
            "an identity is what a certificate names, and no certificate is given", code="bad-certificate"
        )
    trusted = [TrustedKey(name=str(path), pem=_text(path)) for path in keys]
    trusted += [TrustedKey(name=str(path), pem=_text(path), identity=identity) for path in chains]
    if issuer:
        trusted.append(TrustedKey(name=identity, pem="", identity=identity, issuer=issuer))
    names = tuple(key.name for key in trusted)
    return Trust(tuple(trusted), (Requirement("*", names),)) if names else NO_TRUST


def trusts_of(policies: Sequence[Policy], given: Trust = NO_TRUST) -> list[Trust]:
    """What policies and a caller say about signatures; empty when nobody says anything."""
    return [trust for trust in (*(policy.trust for policy in policies), given) if trust != NO_TRUST]


def verifiers_of(trust: Trust) -> list[Verifier]:
    """One verifier per trusted key.

    Raises:
        MissingDependency: the library for keys is not installed.
        InvalidInput: one is not a key, or not certificates.
    """
    found: list[Verifier] = []
    for key in trust.keys:
        if key.issuer:
            found.append(_room("keyless").KeylessVerifier(key.name, identity=key.identity, issuer=key.issuer))
        elif key.is_authority:
            found.append(_room("certificates").CertificateVerifier(key.name, key.pem.encode(), identity=key.identity))
        else:
            found.append(_room("keys").KeyVerifier(key.name, key.pem.encode()))
    return found


def judge_signed(registry: Registry, version: Version, trust: Trust) -> Judgement:
    """What a version's signatures are worth today.

    Raises:
        NotFound: the version was purged.
        MissingDependency, InvalidInput: as ``verifiers_of``.
    """
    return signatures.judge(registry, version, verifiers_of(trust), trust, datetime.now(UTC).date())


def judge_version(registry: Registry, version: Version, trusts: Sequence[Trust]) -> Judgement:
    """What a version's signatures are worth under every one of some trusts; with none, they are only listed.

    Raises:
        As ``judge_signed``.
    """
    return join([judge_signed(registry, version, trust) for trust in (trusts or [NO_TRUST])])


def sign_path(path: Path, out: Path, signer: Signer, *, progress: Progress = SILENT) -> Digest:
    """Sign the files of a folder and write the signature to *out*; its digest.

    Raises:
        NotFound, InvalidInput, StorageError: as the message says; nothing is written.
    """
    folder = _folder(path)
    files = collect(folder, everything=True)
    beside = _beside(folder, out)
    files.pop(beside, None)
    links = any(folder / entry != file for entry, file in files.items())
    digests = signatures.digests_of(files, progress=progress)
    bundle = signatures.sign_files(folder.resolve().name, digests, signer, beside=beside, links=links)
    try:
        out.write_bytes(bundle)
    except OSError as error:
        raise StorageError.of(error, f"cannot write {out}") from error
    return Digest.of(bundle)


def judge_path(path: Path, bundle: Path, trust: Trust, *, progress: Progress = SILENT) -> Judgement:
    """What a signature of a folder's files is worth; every file is read.

    Raises:
        NotFound, InvalidInput, StorageError: as the message says.
        VerificationFailed: nobody is trusted, so nothing can be said (code ``signature-untrusted``).
    """
    if trust == NO_TRUST:
        raise VerificationFailed(
            f"{bundle} cannot be judged: nobody is trusted",
            code="signature-untrusted",
            hint="name a public key: --key PUB",
        )
    folder = _folder(path)
    digests = signatures.digests_of(collect(folder, everything=True), progress=progress)
    check = signatures.check_bundle(read_bundle(bundle), digests, verifiers_of(trust))
    return judge_signers(folder.resolve().name, [check], trust, datetime.now(UTC).date())


def read_bundle(file: Path) -> bytes:
    """The bytes of a signature's file, and no more than one can have.

    Raises:
        NotFound, StorageError: it cannot be read.
    """
    return _bytes(file, MAX_BUNDLE)


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    raise NotFound(f"no such folder: {path}", code="path-not-found", hint="a signature is over the files of a folder")


def _beside(folder: Path, out: Path) -> str:
    """Path of the signature inside the folder, or empty."""
    place = out.parent.resolve() / out.name
    root = folder.resolve()
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else ""


def _text(path: Path) -> str:
    try:
        return _bytes(path, _MAX_TRUSTED).decode("ascii")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not PEM text", code="bad-key") from error


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", code="path-not-found") from None
    except OSError as error:
        raise StorageError.of(error, f"cannot read {path}") from error


def _room(name: str) -> Any:
    """A module of ``assay.signing``.

    Raises:
        MissingDependency: what it needs is not installed.
    """
    try:
        return import_module(f"assay.signing.{name}")
    except ModuleNotFoundError as error:
        extra = "keyless" if name == "keyless" else "sign"
        raise MissingDependency(
            f"signatures need the library {error.name}", hint=f"pip install 'assay[{extra}]'"
        ) from error
