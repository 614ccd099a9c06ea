"""Manifests of other tools: files they name outside their folder, digests that are paths, sizes that cannot be.

*.index.json            weight_map of shards
manifest.json, index.json    OCI: titles, digests and sizes of layers
*.sig, *.sigstore       OpenSSF model signatures: resources, inside a base64 payload
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence

from assay.containers.documents import parse_json
from assay.containers.locations import escaping
from assay.errors import AssayError
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MANIFESTS = frozenset({"manifest.json", "index.json", "oci-layout", "model.sig", "model.sigstore"})
_MAX_FINDINGS = 20
_MAX_PAYLOAD = 16 << 20
_MAX_VISITED = 200_000
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-zA-Z=_-]{8,256}")
_WEAK = re.compile(r"(?:md5|sha1|crc32|adler32):", re.IGNORECASE)
_TITLE = "org.opencontainers.image.title"


def judge_manifest(value: Json, path: str) -> list[Finding]:
    """What a manifest names that leads elsewhere or cannot be."""
    found: list[Finding] = []
    for finding in _findings(value, path):
        found.append(finding)
        if len(found) >= _MAX_FINDINGS:
            break
    return found


def judge_part(key: str, text: str, path: str) -> list[Finding]:
    """What one setting of a manifest in YAML names that leads elsewhere or cannot be."""
    if key in ("path", "wdir") and text != "." and text.strip("./"):
        return list(_place(text, path, "the manifest names a file"))
    if key in ("md5", "etag", "hash") and re.search(r"[/\\]|\.\.", text):
        message = "a digest is none: programs that make a file name of it open another file"
        return [Finding("manifest-digest", Severity.WRITE, message, path, evidence=text[:200])]
    if key == "size" and text.startswith("-"):
        return [Finding("manifest-size", Severity.MISLEAD, "a size cannot be", path, evidence=text[:80])]
    return []


def _findings(value: Json, path: str) -> Iterator[Finding]:
    if not isinstance(value, Mapping):
        return
    shards = value.get("weight_map")
    if isinstance(shards, Mapping):
        for name in dict.fromkeys(item for item in shards.values() if isinstance(item, str)):
            yield from _place(name, path, "the index names a shard")
    envelope = value.get("dsseEnvelope", value)
    payload = envelope.get("payload") if isinstance(envelope, Mapping) else None
    if isinstance(payload, str) and len(payload) < _MAX_PAYLOAD:
        yield from _resources(payload, path)
    if "schemaVersion" in value or "layers" in value or "manifests" in value:
        yield from _descriptors(value, path)


def _resources(payload: str, path: str) -> Iterator[Finding]:
    """The files that a signature is about."""
    try:
        statement = parse_json(base64.b64decode(payload, validate=True), path).value
    except (AssayError, binascii.Error, ValueError):
        yield Finding("manifest-payload", Severity.MISLEAD, "the signature's payload cannot be read", path)
        return
    predicate = statement.get("predicate") if isinstance(statement, Mapping) else None
    resources = predicate.get("resources") if isinstance(predicate, Mapping) else None
    for item in resources if isinstance(resources, Sequence) and not isinstance(resources, str) else ():
        name = item.get("name") if isinstance(item, Mapping) else None
        if isinstance(name, str):
            yield from _place(name, path, "the signature is about a file")


def _descriptors(value: Json, path: str) -> Iterator[Finding]:
    waiting: list[Json] = [value]
    for _ in range(_MAX_VISITED):
        if not waiting:
            return
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend(item.values())
            yield from _descriptor(item, path)
        elif isinstance(item, list):
            waiting.extend(item)


def _descriptor(item: Mapping[str, Json], path: str) -> Iterator[Finding]:
    title, digest, size = item.get(_TITLE), item.get("digest"), item.get("size")
    if isinstance(title, str):
        yield from _place(title, path, "a layer is written to a file", writes=True)
    if isinstance(digest, str) and not _DIGEST.fullmatch(digest):
        message = "a digest is none: programs that make a file name of it open another file"
        yield Finding("manifest-digest", Severity.WRITE, message, path, evidence=digest[:200])
    elif isinstance(digest, str) and _WEAK.match(digest):
        message = "a digest of a kind that can be forged"
        yield Finding("manifest-weak-digest", Severity.MISLEAD, message, path, evidence=digest[:80])
    if "digest" in item and isinstance(size, int) and not 0 <= size < 1 << 53:
        yield Finding("manifest-size", Severity.MISLEAD, "a layer's size cannot be", path, evidence=str(size)[:80])


def _place(name: str, path: str, what: str, *, writes: bool = False) -> Iterator[Finding]:
    reason = escaping(name)
    if reason:
        does, severity = ("write", Severity.WRITE) if writes else ("read", Severity.READ)
        effect = f"{does} a file outside the artifact"
        yield Finding("manifest-path", severity, f"{what} whose name {reason}", path, None, name[:200], effect)
