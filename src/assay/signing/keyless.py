"""Keyless signatures: an identity that Sigstore's services confirm, and a key that lives for minutes.

All of the protocol is Sigstore's own library: certificates, logs, timestamps, and the roots they are traced to. Signing
needs a network, and so does verifying until the library has fetched its roots once; offline it goes by those it holds.
"""

from __future__ import annotations

import hashlib
import logging

from cryptography.hazmat.primitives import serialization
from sigstore import dsse, oidc
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle as SigstoreBundle
from sigstore.models import ClientTrustConfig, InvalidBundle
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from assay.errors import StorageError, VerificationFailed
from assay.ports.signing import Seal
from assay.spec.bundle import PAYLOAD_TYPE, Bundle

_UNREACHABLE = (SigstoreError, OSError)


class KeylessSigner:
    """Signs with the identity of a workload, or of the person who is asked in a browser.

    Raises:
        StorageError: the services cannot be reached, or no identity was given (code ``sigstore-unreachable``).
    """

    def __init__(self) -> None:
        try:
            config = ClientTrustConfig.production()
            self._context = SigningContext.from_trust_config(config)
            found = oidc.detect_credential()
            issuer = oidc.Issuer(config.signing_config.get_oidc_url()) if found is None else None
            self._token = issuer.identity_token() if issuer else oidc.IdentityToken(found or "")
        except Exception as error:  # the library raises those of its transports, too
            raise _unreachable(error) from error

    @property
    def seal(self) -> Seal:
        """Who signs; the key is another one for each signature."""
        return Seal("", self._token.federated_issuer, self._token.identity)

    def sign(self, payload: bytes) -> Bundle:
        """A bundle with *payload*, which is now in a public log.

        Raises:
            StorageError: the services cannot be reached (code ``sigstore-unreachable``).
        """
        try:
            with self._context.signer(self._token) as signer:
                made = signer.sign_dsse(dsse.Statement(payload))
        except Exception as error:
            raise _unreachable(error) from error
        return Bundle.parse(made.to_json().encode())


class KeylessVerifier:
    """Trusts one identity, as one service confirmed it.

    Args:
        name: what we call it.
        identity: mail address or URI in the certificate.
        issuer: URL of the service.
    """

    def __init__(self, name: str, *, identity: str, issuer: str) -> None:
        self._name = name
        self._identity = identity
        self._issuer = issuer

    @property
    def name(self) -> str:
        """What we call the identity."""
        return self._name

    def check(self, bundle: Bundle) -> Seal:
        """Who made the signature.

        Raises:
            VerificationFailed: as the port says.
        """
        if not bundle.keyless:
            raise VerificationFailed(f"not a keyless signature, as {self._name} makes them", code="signature-untrusted")
        try:
            whole = SigstoreBundle.from_json(bundle.keyless)
            kind, payload = _verifier().verify_dsse(whole, Identity(identity=self._identity, issuer=self._issuer))
        except (SigstoreError, InvalidBundle, ValueError, TypeError, KeyError) as error:
            said = " ".join(str(error).split())
            raise VerificationFailed(
                f"not signed by {self._name}, or altered: {said:.300}", code="signature-untrusted"
            ) from error
        if (kind, payload) != (PAYLOAD_TYPE, bundle.payload):
            raise VerificationFailed("the signature is over another payload", code="signature-invalid")
        der = whole.signing_certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Seal(f"sha256:{hashlib.sha256(der).hexdigest()}", self._issuer, self._identity)


def _verifier() -> Verifier:
    """With fresh roots where there is a network, else with those the library holds."""
    logging.getLogger("sigstore").setLevel(logging.ERROR)
    try:
        return Verifier.production()
    except _UNREACHABLE:
        return Verifier.production(offline=True)


def _unreachable(error: Exception) -> StorageError:
    return StorageError(
        f"no keyless signature could be made: {' '.join(str(error).split()):.300}",
        code="sigstore-unreachable",
        hint="it needs a network and an identity; assay sign --key FILE needs neither",
    )
