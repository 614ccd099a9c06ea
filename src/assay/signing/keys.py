"""Elliptic-curve keys as PEM files: P-256, P-384 and P-521, the kinds that model signing knows."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from assay.errors import Conflict, InvalidInput, NotFound, StorageError, VerificationFailed
from assay.ports.signing import Seal
from assay.spec.bundle import Bundle, framed

MAX_PEM = 1 << 20

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""Curve to the hash that goes with it."""


class KeySigner:
    """Signs with a private key alone.

    Args:
        key: on one of the known curves.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = key.public_key()

    @property
    def seal(self) -> Seal:
        """Who signs."""
        return Seal(fingerprint(self._public), fingerprint(self._public))

    def sign(self, payload: bytes) -> Bundle:
        """A bundle with *payload*; the same one each time where the library can (RFC 6979)."""
        return Bundle(payload, sign_bytes(self._key, framed(payload)), hint=hint_of(self._public))


class KeyVerifier:
    """Trusts one public key.

    Args:
        name: what we call its holder.
        pem: the key.

    Raises:
        InvalidInput: it is not such a key (code ``bad-key``).
    """

    def __init__(self, name: str, pem: bytes) -> None:
        self._name = name
        self._public = read_public_key(pem, name)

    @property
    def name(self) -> str:
        """What we call the holder of the key."""
        return self._name

    def check(self, bundle: Bundle) -> Seal:
        """Who made the signature: always the holder of the key.

        Raises:
            VerificationFailed: as the port says.
        """
        if bundle.chain or (bundle.hint and bundle.hint != hint_of(self._public)):
            raise VerificationFailed(f"not signed with the key {self._name}", code="signature-untrusted")
        if not signed_by(self._public, bundle):
            if bundle.hint:
                raise VerificationFailed(
                    f"the bundle names the key {self._name}, and its signature does not match what it signs",
                    code="signature-invalid",
                )
            raise VerificationFailed(f"not signed with the key {self._name}, or altered", code="signature-untrusted")
        return Seal(fingerprint(self._public), fingerprint(self._public))


def read_private_key(path: Path, password: bytes | None) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        NotFound: there is no such file (code ``path-not-found``).
        InvalidInput: it is not such a key (code ``bad-key``), or its password is missing or wrong
            (``key-password``).
    """
    data = read_pem(path)
    if b"SIGSTORE" in data or b"COSIGN" in data:
        raise InvalidInput(
            f"{path} is a key in cosign's own form",
            code="bad-key",
            hint="make one with assay key, or with openssl; cosign imports those with import-key-pair",
        )
    try:
        key = serialization.load_pem_private_key(data, password)
    except TypeError as error:
        wanted = "is encrypted" if password is None else "is not encrypted, and a password was given"
        raise InvalidInput(
            f"the key {path} {wanted}", code="key-password", hint="the password is taken from ASSAY_KEY_PASSWORD"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if password is not None:
            raise InvalidInput(f"the key {path} is damaged, or its password is wrong", code="key-password") from error
        raise _bad_key(str(path), "private") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise _bad_key(str(path), "private")
    return key


def read_public_key(pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The public key in a PEM text.

    Raises:
        InvalidInput: it is not such a key (code ``bad-key``).
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(name, "public") from error
    return checked_curve(key, name)


def checked_curve(key: object, name: str) -> ec.EllipticCurvePublicKey:
    """*key*, when it is on one of the known curves.

    Raises:
        InvalidInput: it is not (code ``bad-key``).
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise _bad_key(name, "public")
    return key


def make_key(path: Path, password: bytes | None) -> Path:
    """Make a P-256 key pair: *path*, for its owner alone, and beside it ``path.pub``.

    Returns:
        Where the public key is.

    Raises:
        Conflict: one of the two files is there (code ``key-exists``).
        StorageError: they cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise _key_exists(public)
    try:
        path.touch(mode=stat.S_IRUSR | stat.S_IWUSR, exist_ok=False)
        path.write_bytes(private)
        public.write_bytes(pem_of(key.public_key()))
    except FileExistsError:
        raise _key_exists(path) from None
    except OSError as error:
        raise StorageError.of(error, f"cannot write the key {path}") from error
    return public


def sign_bytes(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """An ECDSA signature (ASN.1) with the hash that goes with the curve."""
    algorithm = _HASHES[key.curve.name]
    try:
        return key.sign(data, ec.ECDSA(algorithm, deterministic_signing=True))
    except UnsupportedAlgorithm:
        return key.sign(data, ec.ECDSA(algorithm))


def signed_by(key: ec.EllipticCurvePublicKey, bundle: Bundle) -> bool:
    """Whether the holder of *key* signed the bundle's payload."""
    try:
        key.verify(bundle.signature, framed(bundle.payload), ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """``sha256:`` and the hash of the key's DER form, as ``openssl pkey -pubin -outform DER | sha256sum`` prints it."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def hint_of(key: ec.EllipticCurvePublicKey) -> str:
    """How bundles of model signing name a key: the hash of its PEM text."""
    return hashlib.sha256(pem_of(key)).hexdigest()


def pem_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as a PEM file holds it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_pem(path: Path) -> bytes:
    """The bytes of a PEM file.

    Raises:
        NotFound: there is no such file (code ``path-not-found``).
        InvalidInput: it is far too large for one (code ``bad-key``).
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_PEM + 1)
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", code="path-not-found") from None
    except OSError as error:
        raise StorageError.of(error, f"cannot read {path}") from error
    if len(data) > MAX_PEM:
        raise InvalidInput(f"{path} is too large for a key or certificates", code="bad-key")
    return data


def _bad_key(name: str, kind: str) -> InvalidInput:
    return InvalidInput(
        f"{name} is not a {kind} key that can sign models: expected PEM with an elliptic-curve key on P-256, P-384 or "
        "P-521",
        code="bad-key",
        hint="assay key PATH makes one",
    )


def _key_exists(path: Path) -> Conflict:
    return Conflict(f"{path} is there already: a key is never overwritten", code="key-exists")
