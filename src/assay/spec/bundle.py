"""A Sigstore bundle v0.3: a DSSE envelope, and what is needed to check its signature.

Only the part that signatures by keys and by certificates use. Reading is strict, so that no bit of a bundle is without
meaning: unknown and repeated fields are refused, and base64 has one spelling.

Not here: cryptography (``assay.signing``), and what the payload says (``signature``).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.errors import InvalidInput
from assay.spec.json import Json, canonical

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BUNDLE = 32 << 20
"""Bytes: 10,000 files need about 3 MiB."""
MAX_CHAIN = 10

_TOP = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
_MATERIAL = frozenset({"publicKey", "x509CertificateChain", "certificate", "tlogEntries", "timestampVerificationData"})
_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signed payload.

    Args:
        payload: the bytes that were signed, before framing.
        signature: over ``framed(payload)``.
        hint: SHA-256 of the public key's PEM text, in hex; empty with certificates, and in bundles of older tools.
        chain: DER certificates, the signing one first; empty with a key.
        keyless: the whole bundle as it was made, when its certificate lived for minutes; only the proofs in it, which
            Sigstore's own library reads, say that it did.
    """

    payload: bytes
    signature: bytes
    hint: str = ""
    chain: tuple[bytes, ...] = ()
    keyless: bytes = b""

    def to_bytes(self) -> bytes:
        """The bundle as it is stored."""
        if self.keyless:
            return self.keyless
        material: dict[str, Json] = {"tlogEntries": []}
        if self.chain:
            material["x509CertificateChain"] = {"certificates": [{"rawBytes": _encode(one)} for one in self.chain]}
        else:
            material["publicKey"] = {"hint": self.hint}
        return canonical(
            {
                "mediaType": BUNDLE_TYPE,
                "verificationMaterial": material,
                "dsseEnvelope": {
                    "payload": _encode(self.payload),
                    "payloadType": PAYLOAD_TYPE,
                    "signatures": [{"sig": _encode(self.signature), "keyid": ""}],
                },
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read a bundle. Its signature is not checked.

        Raises:
            InvalidInput: it is not a bundle (code ``invalid-bundle``), or a bare signature (code
                ``unsupported-bundle``).
        """
        body = _fields("bundle", _document(data), _TOP | {"messageSignature"})
        if body.get("mediaType") != BUNDLE_TYPE:
            raise _invalid(f"mediaType is {body.get('mediaType')!r:.80}, expected {BUNDLE_TYPE}")
        if "messageSignature" in body:
            raise _unsupported("a bare signature without a statement")
        material = body.get("verificationMaterial")
        material = _fields("verificationMaterial", material, _MATERIAL)
        envelope = _fields("dsseEnvelope", body.get("dsseEnvelope"), _ENVELOPE)
        if envelope.get("payloadType") != PAYLOAD_TYPE:
            raise _invalid(f"payloadType is {envelope.get('payloadType')!r:.80}, expected {PAYLOAD_TYPE}")
        signatures = envelope.get("signatures")
        if not isinstance(signatures, list) or len(signatures) != 1:
            raise _invalid("it holds other than one signature")
        signature = _fields("signature", signatures[0], frozenset({"sig", "keyid"}))
        if signature.get("keyid", "") != "":
            raise _invalid("the signature has a keyid, which nothing protects")
        payload, sealed = _decode("payload", envelope.get("payload")), _decode("sig", signature.get("sig"))
        if "certificate" in material:
            if "publicKey" in material or "x509CertificateChain" in material:
                raise _invalid("it names both a keyless certificate and something else")
            one = _fields("certificate", material["certificate"], frozenset({"rawBytes"})).get("rawBytes")
            return cls(payload, sealed, chain=(_decode("certificate", one),), keyless=data)
        hint, chain = _material(material)
        return cls(payload, sealed, hint, chain)


def framed(payload: bytes) -> bytes:
    """What a signature is made over: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def read_object(data: bytes) -> Mapping[str, Any]:
    """A JSON object in which no field is given twice, at any depth.

    Raises:
        ValueError: it is not one.
    """
    body = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    if not isinstance(body, Mapping):
        raise ValueError("not an object")  # noqa: TRY004 - what it is about is the document
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _document(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_BUNDLE:
        raise _invalid(f"it has {len(data):,} bytes, at most {MAX_BUNDLE:,} are read")
    try:
        return read_object(data)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"it is not JSON: {error}") from error


def _material(material: Mapping[str, Any]) -> tuple[str, tuple[bytes, ...]]:
    keyed, chained = "publicKey" in material, "x509CertificateChain" in material
    if keyed == chained:
        raise _invalid("it names neither or both of a key and certificates")
    if keyed:
        key = _fields("publicKey", material["publicKey"], frozenset({"hint"}))
        hint = key.get("hint", "")
        if not isinstance(hint, str):
            raise _invalid("the key's hint is not text")
        return hint, ()
    held = _fields("x509CertificateChain", material["x509CertificateChain"], frozenset({"certificates"}))
    certificates = held.get("certificates")
    if not isinstance(certificates, list) or not 1 <= len(certificates) <= MAX_CHAIN:
        raise _invalid(f"it needs 1 to {MAX_CHAIN} certificates")
    raw = (_fields("certificate", one, frozenset({"rawBytes"})).get("rawBytes") for one in certificates)
    return "", tuple(_decode("certificate", one) for one in raw)


def _fields(what: str, value: object, known: frozenset[str]) -> dict[str, Any]:
    """The stated fields of an object; null says nothing."""
    if not isinstance(value, Mapping):
        raise _invalid(f"{what} is not an object")
    unknown = sorted(set(value) - known)
    if unknown:
        raise _invalid(f"{what} has the unknown field {unknown[0]!r:.60}")
    return {key: item for key, item in value.items() if item is not None}


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(what: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise _invalid(f"{what} is missing")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"{what} is not base64") from error
    if _encode(data) != value:
        raise _invalid(f"{what} is not base64 in its one spelling")
    return data


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(f"not a signature bundle: {message}", code="invalid-bundle")


def _unsupported(what: str) -> InvalidInput:
    return InvalidInput(f"the bundle is {what}: it cannot be checked here", code="unsupported-bundle")
