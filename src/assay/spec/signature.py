"""What a signature says about an artifact, and how its words compare with the files.

Two statements are signed, each an in-toto Statement v1. The *files* statement is that of OpenSSF Model Signing 1.0: a
SHA-256 per file, and one over all of them. The *manifest* statement is that of cosign: the artifact's manifest digest.
Written format: ``docs/spec/signatures.md``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assay.errors import InvalidInput
from assay.spec.bundle import read_object
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.paths import check_path
from assay.spec.statement import STATEMENT_TYPE

FILES_TYPE = "https://model_signing/signature/v1.0"
MANIFEST_TYPE = "https://sigstore.dev/cosign/sign/v1"
SET_ASIDE = (".git", ".gitattributes", ".github", ".gitignore")
"""Names at the top that the files statement leaves out, because its other tools do; the manifest statement does not."""

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Standing(StrEnum):
    """What came of checking one signature."""

    VALID = "valid"
    INVALID = "invalid"
    """the signature, or what it says, does not match"""
    UNTRUSTED = "untrusted"
    """made by nobody we were told to trust"""
    REVOKED = "revoked"
    EXPIRED = "expired"
    """the key is trusted, but not today"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCheck:
    """One signature, checked.

    Args:
        standing: the outcome.
        reason: why it is not valid, or what it does not cover.
        signature: digest of the bundle.
        covers: ``files``, ``manifest``, or empty when it cannot be told.
        signer: what we call who made it; empty when untrusted.
        key: ``sha256:`` and the hash of the signing public key (DER); empty when untrusted.
        anchor: the same of what we trust: that key, or a root certificate.
        identity: whom the certificate names.
    """

    standing: Standing
    reason: str = ""
    signature: Digest
    covers: str = ""
    signer: str = ""
    key: str = ""
    anchor: str = ""
    identity: str = ""

    def to_json(self) -> dict[str, Json]:
        """As printed by ``--json``."""
        return {
            "standing": self.standing.value,
            "reason": self.reason,
            "signature": str(self.signature),
            "covers": self.covers,
            "signer": self.signer,
            "key": self.key,
            "identity": self.identity,
        }


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a files statement says.

    Args:
        name: the model, as its signer called it; informative.
        digests: SHA-256 per path.
        ignored: paths, with everything below them, that the signer left out.
    """

    name: str
    digests: Mapping[str, Digest]
    ignored: tuple[str, ...] = ()


def files_statement(
    name: str, digests: Mapping[str, Digest], *, ignored: Iterable[str] = (), links: bool = False
) -> bytes:
    """The payload of a files statement: what other tools write for the same files, but for white space.

    Args:
        name: of the model.
        digests: per path.
        ignored: further paths that were left out.
        links: whether some files are links, which other tools must be told.

    Raises:
        InvalidInput: nothing is left to sign (code ``empty-tree``), or a digest is not SHA-256 (``invalid-digest``).
    """
    chosen = {path: digest for path, digest in digests.items() if path.split("/")[0] not in SET_ASIDE}
    if not chosen:
        raise InvalidInput("there is nothing to sign: no files", code="empty-tree")
    for path, digest in chosen.items():
        if digest.algorithm != "sha256":
            raise InvalidInput(f"{path} is known by {digest.algorithm}, signing needs sha256", code="invalid-digest")
    ordered = sorted(chosen, key=lambda path: path.split("/"))  # as paths compare, not as text does
    left_out: list[Json] = [*SET_ASIDE, *sorted(set(ignored))]
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _root(chosen[path] for path in ordered)}}],
            "predicateType": FILES_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": links,
                    "ignore_paths": left_out,
                },
                "resources": [{"name": path, "algorithm": "sha256", "digest": chosen[path].hex} for path in ordered],
            },
        }
    )


def manifest_statement(manifest: Digest) -> bytes:
    """The payload of a manifest statement."""
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": "", "digest": {manifest.algorithm: manifest.hex}}],
            "predicateType": MANIFEST_TYPE,
            "predicate": {},
        }
    )


def read_payload(payload: bytes) -> SignedFiles | Digest:
    """What was signed: files, or the digest of a manifest.

    Raises:
        InvalidInput: it is neither, or contradicts itself (code ``invalid-signed-statement``).
    """
    try:
        body = read_object(payload)
        (subject,) = body["subject"]
        kind, predicate, name = body["predicateType"], body["predicate"], subject.get("name", "")
        root = Digest("sha256", subject["digest"]["sha256"])
        if body["_type"] != STATEMENT_TYPE or not isinstance(predicate, Mapping) or not isinstance(name, str):
            raise _invalid("it is not an in-toto Statement v1")
        if kind == MANIFEST_TYPE:
            return root
        if kind == FILES_TYPE:
            return _files(name, root, predicate)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(f"it is not an in-toto statement about one subject ({error})") from error
    raise _invalid(f"its predicate type is {kind!r:.100}")


def compare(signed: SignedFiles, found: Mapping[str, Digest], bundle: Digest) -> tuple[list[str], list[str]]:
    """How files differ from what was signed, and which the signature leaves out although they are there.

    Only git's own files and the bundle itself may be left out; any other file beyond the signature is a difference.

    Args:
        signed: the statement.
        found: SHA-256 per path.
        bundle: digest of the signature's own bytes.
    """
    differing = [f"{path} is missing" for path in sorted(set(signed.digests) - set(found))]
    uncovered = []
    for path, digest in sorted(found.items()):
        if path in signed.digests:
            if signed.digests[path] != digest:
                differing.append(f"{path} differs: signed {signed.digests[path].short}, found {digest.short}")
        elif _left_out(path, signed.ignored) and (path.split("/")[0] in SET_ASIDE or digest == bundle):
            uncovered += [] if digest == bundle else [path]
        else:
            differing.append(f"{path} is not signed")
    return differing, uncovered


def _files(name: str, root: Digest, predicate: Mapping[str, object]) -> SignedFiles:
    serialization, resources = predicate["serialization"], predicate["resources"]
    if not isinstance(serialization, Mapping) or not isinstance(resources, Sequence):
        raise _invalid("it lists no resources")
    method, hash_type = serialization.get("method"), serialization.get("hash_type")
    if method != "files" or hash_type != "sha256":
        raise _invalid(
            f"files are hashed by {method!r:.20}, {hash_type!r:.20}; only whole files by sha256 can be checked"
        )
    ignored = serialization.get("ignore_paths") or []
    if not isinstance(ignored, list) or not all(isinstance(path, str) for path in ignored):
        raise _invalid("ignore_paths is not a list of paths")
    digests: dict[str, Digest] = {}
    for resource in resources:
        path, algorithm, value = resource["name"], resource["algorithm"], resource["digest"]
        if not isinstance(path, str) or not isinstance(value, str):
            raise _invalid("a resource has no name or digest")
        try:
            check_path(path)
        except InvalidInput as error:
            raise _invalid(error.message) from error
        if algorithm != "sha256" or not _HEX.fullmatch(value):
            raise _invalid(f"the digest of {path} is not a sha256 ({algorithm!r:.20})")
        if path in digests:
            raise _invalid(f"{path} is listed twice")
        digests[path] = Digest("sha256", value)
    if not digests:
        raise _invalid("it lists no resources")
    if _root(digests.values()) != root.hex:
        raise _invalid("its root digest is not that of its resources")
    return SignedFiles(name, digests, tuple(ignored))


def _root(digests: Iterable[Digest]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest.hex) for digest in digests)).hexdigest()


def _left_out(path: str, ignored: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in ignored)


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(f"what was signed cannot be compared: {message}", code="invalid-signed-statement")
