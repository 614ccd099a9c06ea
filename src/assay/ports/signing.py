"""The ports of signing: who makes a signature, and who checks one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from assay.spec.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Seal:
    """Who made a signature that is good.

    Args:
        key: ``sha256:`` and the hash of the signing public key (DER).
        anchor: the same of what is trusted: that key, or the root certificate it was traced to.
        identity: whom the certificate names; empty for a bare key.
    """

    key: str
    anchor: str
    identity: str = ""


class Signer(Protocol):
    """Holds a private key."""

    @property
    def seal(self) -> Seal:
        """Who signs."""
        ...

    def sign(self, payload: bytes) -> Bundle:
        """A bundle with *payload*; the same bundle for the same payload where the key's kind allows it."""
        ...


class Verifier(Protocol):
    """Trusts one key, or the certificates one authority issues."""

    @property
    def name(self) -> str:
        """What we call who is trusted."""
        ...

    def check(self, bundle: Bundle) -> Seal:
        """Who made the signature.

        Raises:
            VerificationFailed: it claims to be made by whom we trust, and is not (code ``signature-invalid``); or it
                was made by somebody else (``signature-untrusted``) or with a certificate that does not hold today
                (``signature-expired``).
        """
        ...
