"""Sign an artifact, and say what its signatures are worth.

Nothing here reads weights: an artifact's manifest holds the digest of every file, and that is what is signed. Whether
the stored bytes still have these digests is what ``verify`` checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from assay.errors import AssayError, StorageError, VerificationFailed
from assay.policy.trust import Judgement, Trust, judge_signers
from assay.ports.progress import SILENT, Progress
from assay.ports.signing import Seal, Signer, Verifier
from assay.service.registry import Registry, holding, read_manifest, read_small
from assay.spec.bundle import BUNDLE_TYPE, MAX_BUNDLE, Bundle
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.manifest import ARTIFACT_TYPE, MANIFEST_TYPE, Manifest
from assay.spec.records import Referrer, Version
from assay.spec.signature import (
    FILES_TYPE,
    SignatureCheck,
    SignedFiles,
    Standing,
    compare,
    files_statement,
    manifest_statement,
    read_payload,
)
from assay.spec.signature import MANIFEST_TYPE as SIGNED_MANIFEST
from assay.spec.statement import CREATED_KEY, EMPTY_JSON, EMPTY_TYPE
from assay.streams.copying import digest_source
from assay.trees.window import FileSource

CONTENT_KEY = "dev.sigstore.bundle.content"
PREDICATE_KEY = "dev.sigstore.bundle.predicateType"


@dataclass(frozen=True, slots=True)
class Signed:
    """The outcome of signing.

    Args:
        version: what was signed.
        seal: who signed.
        signatures: digests of the two bundles: over the files, and over the manifest.
        added: how many were not there before.
    """

    version: Version
    seal: Seal
    signatures: tuple[Digest, Digest]
    added: int


def sign(registry: Registry, version: Version, signer: Signer) -> Signed:
    """Sign a version's files and its manifest, and keep both signatures beside it.

    Raises:
        NotFound: the version was purged, or its manifest is missing.
        IntegrityError: its manifest is damaged.
        InvalidInput: it has nothing that a files statement can cover.
    """
    manifest = registry.manifest(version)
    digests = {entry.path: entry.digest for entry in manifest.entries()}
    files = signer.sign(files_statement(version.name, digests)).to_bytes()
    whole = signer.sign(manifest_statement(manifest.digest)).to_bytes()
    added = _attach(registry, files, manifest, FILES_TYPE) + _attach(registry, whole, manifest, SIGNED_MANIFEST)
    return Signed(version, signer.seal, (Digest.of(files), Digest.of(whole)), added)


def keep(registry: Registry, version: Version, data: bytes) -> bool:
    """Keep a signature that another tool made beside a version; False when it is there already.

    Who made it is not asked: that is for those who verify.

    Raises:
        InvalidInput: it is not a signature that can be compared (codes ``invalid-bundle``, ``unsupported-bundle``,
            ``invalid-signed-statement``).
        VerificationFailed: it is about other files, or another artifact (code ``signature-mismatch``).
    """
    manifest = registry.manifest(version)
    said = read_payload(Bundle.parse(data).payload)
    digests = {entry.path: entry.digest for entry in manifest.entries()}
    reason, matches = _against(said, digests, manifest.digest, Digest.of(data))
    if not matches:
        raise VerificationFailed(
            f"the signature is not about {version.reference}: {reason}; it was not kept", code="signature-mismatch"
        )
    return _attach(registry, data, manifest, FILES_TYPE if isinstance(said, SignedFiles) else SIGNED_MANIFEST)


def verify_signatures(registry: Registry, version: Version, verifiers: Sequence[Verifier]) -> list[SignatureCheck]:
    """Check every signature of a version against its manifest, oldest first.

    Raises:
        NotFound: the version was purged, or its manifest is missing.
        IntegrityError: its manifest is damaged.
    """
    manifest = registry.manifest(version)
    digests = {entry.path: entry.digest for entry in manifest.entries()}
    referrers = [found for found in registry.referrers(manifest.digest) if found.artifact_type == BUNDLE_TYPE]
    return [_stored(registry, referrer, manifest, digests, verifiers) for referrer in referrers]


def judge(registry: Registry, version: Version, verifiers: Sequence[Verifier], trust: Trust, today: date) -> Judgement:
    """What a version's signatures are worth under some trust.

    Args:
        registry: where it is.
        version: which one.
        verifiers: one per key of *trust*.
        trust: keys and requirements.
        today: the date that counts.

    Raises:
        As ``verify_signatures``.
    """
    return judge_signers(version.name, verify_signatures(registry, version, verifiers), trust, today)


def sign_files(
    name: str, digests: Mapping[str, Digest], signer: Signer, *, beside: str = "", links: bool = False
) -> bytes:
    """A signature over the files of a folder.

    Args:
        name: of the model; informative.
        digests: SHA-256 per path.
        signer: who signs.
        beside: path in the folder at which the signature will lie; empty when it lies elsewhere.
        links: whether some of the files are links.

    Raises:
        InvalidInput: there is nothing to sign.
    """
    ignored = (beside,) if beside else ()
    rest = {path: digest for path, digest in digests.items() if path not in ignored}
    return signer.sign(files_statement(name, rest, ignored=ignored, links=links)).to_bytes()


def digests_of(files: Mapping[str, Path], *, progress: Progress = SILENT) -> dict[str, Digest]:
    """The SHA-256 of every file of a folder, by reading it.

    Raises:
        StorageError: a file cannot be read.
    """
    found = {}
    for path, file in files.items():
        try:
            found[path] = digest_source(FileSource(file), progress=progress)
        except OSError as error:
            raise StorageError.of(error, f"cannot read {file}") from error
    return found


def check_bundle(
    data: bytes, digests: Mapping[str, Digest], verifiers: Sequence[Verifier], *, manifest: Digest | None = None
) -> SignatureCheck:
    """Check one signature.

    Args:
        data: the bundle.
        digests: SHA-256 of every file that is there.
        verifiers: whom to trust; the first who recognises the signature counts.
        manifest: digest of the artifact's manifest, where there is one.
    """
    found = Digest.of(data)
    try:
        bundle = Bundle.parse(data)
        said = read_payload(bundle.payload)
    except AssayError as error:
        foreign = error.code == "unsupported-bundle"
        standing = Standing.UNTRUSTED if foreign else Standing.INVALID
        return SignatureCheck(standing=standing, reason=error.message, signature=found)
    covers = "files" if isinstance(said, SignedFiles) else "manifest"
    refusals: list[VerificationFailed] = []
    for verifier in verifiers:
        try:
            seal = verifier.check(bundle)
        except VerificationFailed as error:
            refusals.append(error)
            continue
        reason, matches = _against(said, digests, manifest, found)
        return SignatureCheck(
            standing=Standing.VALID if matches else Standing.INVALID,
            reason=reason if matches else f"{verifier.name} signed something else: {reason}",
            signature=found,
            covers=covers,
            signer=verifier.name,
            key=seal.key,
            anchor=seal.anchor,
            identity=seal.identity,
        )
    standing, reason = _refused(refusals)
    return SignatureCheck(standing=standing, reason=reason, signature=found, covers=covers)


def _refused(refusals: Sequence[VerificationFailed]) -> tuple[Standing, str]:
    """The gravest of what the verifiers said, each of which turned the signature down."""
    for code, standing in (("signature-invalid", Standing.INVALID), ("signature-expired", Standing.EXPIRED)):
        for error in refusals:
            if error.code == code:
                return standing, error.message
    if len(refusals) == 1:
        return Standing.UNTRUSTED, refusals[0].message
    return Standing.UNTRUSTED, "signed by nobody who is trusted"


def _against(
    said: SignedFiles | Digest, digests: Mapping[str, Digest], manifest: Digest | None, bundle: Digest
) -> tuple[str, bool]:
    """What is to say about the match of a statement with what is there, and whether it matches."""
    if isinstance(said, Digest):
        if manifest is None:
            return "it is over a manifest, and a plain folder has none", False
        return ("", True) if said == manifest else (f"manifest {said.short}, this is {manifest.short}", False)
    differing, uncovered = compare(said, digests, bundle)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        return f"{'; '.join(differing[:3])}{more}", False
    return (f"does not cover {', '.join(uncovered[:5])}" if uncovered else ""), True


def _stored(
    registry: Registry,
    referrer: Referrer,
    subject: Manifest,
    digests: Mapping[str, Digest],
    verifiers: Sequence[Verifier],
) -> SignatureCheck:
    try:
        manifest = read_manifest(registry.blobs, referrer.manifest)
        if len(manifest.layers) != 1:
            reason = f"a signature has one layer, this has {len(manifest.layers)}"
            return SignatureCheck(standing=Standing.INVALID, reason=reason, signature=referrer.manifest)
        data = read_small(registry.blobs, manifest.layers[0].digest, MAX_BUNDLE)
    except AssayError as error:
        return SignatureCheck(standing=Standing.INVALID, reason=error.message, signature=referrer.manifest)
    return check_bundle(data, digests, verifiers, manifest=subject.digest)


@holding
def _attach(registry: Registry, bundle: bytes, subject: Manifest, predicate_type: str) -> bool:
    """Keep a signature beside its subject, as cosign does; False when it is there already."""
    digest = Digest.of(bundle)
    if registry.attached(subject.digest, BUNDLE_TYPE, digest):
        return False
    body: dict[str, Json] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": BUNDLE_TYPE,
        "config": Descriptor(EMPTY_TYPE, Digest.of(EMPTY_JSON), len(EMPTY_JSON)).to_json(),
        "layers": [Descriptor(BUNDLE_TYPE, digest, len(bundle)).to_json()],
        "subject": Descriptor(MANIFEST_TYPE, subject.digest, len(subject.data), artifact_type=ARTIFACT_TYPE).to_json(),
        "annotations": {
            CREATED_KEY: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            CONTENT_KEY: "dsse-envelope",
            PREDICATE_KEY: predicate_type,
        },
    }
    manifest = Manifest.parse(canonical(body))
    for data in (bundle, EMPTY_JSON, manifest.data):
        registry.blobs.add(data)
    return registry.catalog.add_referrer(
        subject.digest, manifest.digest, BUNDLE_TYPE, size=len(manifest.data), actor=registry.actor
    )
