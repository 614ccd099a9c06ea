"""Certificates: a key that an authority vouches for.

The chain in a bundle must lead to a root that we were given, hold today, and allow signing code. There is no trusted
time in a bundle, so a signature ends with its certificate: sign again then, it reads no weights.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from assay.errors import InvalidInput, VerificationFailed
from assay.ports.signing import Seal
from assay.signing.keys import checked_curve, fingerprint, read_pem, sign_bytes, signed_by
from assay.spec.bundle import Bundle, framed

MAX_INTERMEDIATES = 8

_DAMAGED = (
    ValueError,
    TypeError,
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates that are not quite certificates."""


class CertificateSigner:
    """Signs with a private key and shows its certificates.

    Args:
        key: the private key.
        chain: the key's certificate, then those that lead to a root.

    Raises:
        InvalidInput: the first certificate is not the key's (code ``bad-certificate``).
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]) -> None:
        if not chain or chain[0].public_key() != key.public_key():
            raise InvalidInput("the first certificate is not that of the signing key", code="bad-certificate")
        self._key = key
        self._chain = tuple(chain)

    @property
    def seal(self) -> Seal:
        """Who signs."""
        key = fingerprint(self._key.public_key())
        return Seal(key, _hash(self._chain[-1]), identity_of(self._chain[0]))

    def sign(self, payload: bytes) -> Bundle:
        """A bundle with *payload*."""
        chain = tuple(one.public_bytes(Encoding.DER) for one in self._chain)
        return Bundle(payload, sign_bytes(self._key, framed(payload)), chain=chain)


class CertificateVerifier:
    """Trusts what an authority issued, for one identity or any.

    Args:
        name: what we call whom it issued certificates to.
        pem: root certificates.
        identity: whom the signing certificate must name; anybody when empty.
        now: the time at which certificates must hold; the present when None.

    Raises:
        InvalidInput: there are no certificates in *pem* (code ``bad-certificate``).
    """

    def __init__(self, name: str, pem: bytes, *, identity: str = "", now: datetime | None = None) -> None:
        self._name = name
        self._roots = parse_certificates(pem, name)
        self._identity = identity
        self._now = now

    @property
    def name(self) -> str:
        """What we call whom the authority issued certificates to."""
        return self._name

    def check(self, bundle: Bundle) -> Seal:
        """Who made the signature.

        Raises:
            VerificationFailed: as the port says.
        """
        if bundle.keyless or not bundle.chain:
            how = "keyless" if bundle.keyless else "with a bare key"
            raise _untrusted(f"signed {how}, and {self._name} signs with lasting certificates")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what the library only warns about, no honest authority issues
                chain = [_load(raw) for raw in bundle.chain]
                leaf, path = chain[0], self._path(chain)
                key = checked_curve(leaf.public_key(), "the signing certificate's key")
                identities = identities_of(leaf)
                _check_use(leaf)
        except _DAMAGED as error:
            raise _untrusted(f"a certificate of the signature is damaged ({error})") from error
        if set(chain) - set(path):
            raise _untrusted("the signature carries certificates that do not belong to its chain")
        identity = identity_of(leaf)
        if not signed_by(key, bundle):
            raise VerificationFailed(
                f"the bundle shows the certificate of {identity}, and its signature does not match what it signs",
                code="signature-invalid",
            )
        if self._identity and self._identity not in identities:
            raise _untrusted(f"the certificate is that of {identity}, {self._name} is {self._identity}")
        return Seal(fingerprint(key), _hash(path[-1]), identity)

    def _path(self, chain: Sequence[x509.Certificate]) -> Sequence[x509.Certificate]:
        """The certificates from the signing one to one of our roots."""
        now = self._now or datetime.now(UTC)
        leaf = chain[0]
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            raise VerificationFailed(
                f"the certificate of {identity_of(leaf)} holds from {leaf.not_valid_before_utc:%Y-%m-%d} to "
                f"{leaf.not_valid_after_utc:%Y-%m-%d}, not on {now:%Y-%m-%d}",
                code="signature-expired",
            )
        authority = verification.ExtensionPolicy.permit_all().require_present(
            x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority
        )
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(self._roots)))
            .time(now)
            .max_chain_depth(MAX_INTERMEDIATES)
            .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
            .build_client_verifier()
        )
        try:
            return verifier.verify(leaf, list(chain[1:])).chain
        except verification.VerificationError as error:
            raise _untrusted(
                f"the certificate of {identity_of(leaf)} does not lead to what {self._name} trusts ({error})"
            ) from error


def read_certificates(paths: Sequence[Path]) -> tuple[x509.Certificate, ...]:
    """All certificates of some PEM files, in order.

    Raises:
        NotFound: a file is not there (code ``path-not-found``).
        InvalidInput: one holds no certificates (code ``bad-certificate``).
    """
    return tuple(one for path in paths for one in parse_certificates(read_pem(path), str(path)))


def parse_certificates(pem: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text.

    Raises:
        InvalidInput: there are none (code ``bad-certificate``).
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise InvalidInput(f"{name} does not hold PEM certificates ({error})", code="bad-certificate") from error


def identity_of(certificate: x509.Certificate) -> str:
    """Whom a certificate names, as people say it."""
    names = identities_of(certificate)
    return names[0] if names else certificate.subject.rfc4514_string()


def identities_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """All that a certificate names: mail addresses, URIs and hosts, or else its common name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    found = [
        str(one.value)
        for one in names or ()
        if isinstance(one, (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName))
    ]
    if not found:
        found = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(found)


def _load(raw: bytes) -> x509.Certificate:
    """A certificate that obeys its form to the bit.

    Raises:
        One of ``_DAMAGED``.
    """
    certificate = x509.load_der_x509_certificate(raw)
    if raw[-len(certificate.signature) - 1] != 0:
        raise ValueError("its signature is not a whole number of bytes")
    return certificate


def _check_use(leaf: x509.Certificate) -> None:
    """Refuse a certificate that was not issued for signing, such as a web server's."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    try:
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        extended = None
    signs = usage is None or usage.digital_signature
    code = extended is None or ExtendedKeyUsageOID.CODE_SIGNING in extended
    if not (signs and code) or (usage is None and extended is None):
        raise _untrusted(f"the certificate of {identity_of(leaf)} was not issued for signing")


def _is_authority(
    _policy: verification.Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints
) -> None:
    if not constraints.ca:
        raise ValueError("a certificate in the chain is not an authority's")


def _hash(certificate: x509.Certificate) -> str:
    return f"sha256:{hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()}"


def _untrusted(message: str) -> VerificationFailed:
    return VerificationFailed(message, code="signature-untrusted")
