"""The artifact: an OCI image manifest that follows the CNCF ModelPack specification, in one frozen profile.

Profile 1 (``docs/spec/manifest.md``): one raw layer per file; layers ordered by kind, then by path; both file-name
annotations; the layer kind and ``config.format`` come from the fixed path table in ``assay.spec.kinds``; nothing from a
parser, a plugin, a clock, a user or a machine. Same files, same digest, for ever. **Nothing here may change once
released**: golden tests pin the bytes; a different writing is profile 2 beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.kinds import KINDS, kind_of, model_format
from assay.spec.paths import check_path, check_together

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
FILEPATH = "org.cncf.model.filepath"
LEGACY_FILEPATH = "org.cnai.model.filepath"
TITLE = "org.opencontainers.image.title"

MAX_MANIFEST = 4 << 20
"""Bytes. OCI registries and clients are only asked to support manifests up to 4 MiB: about 10,000 files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an artifact."""

    path: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest beside its exact bytes, which alone carry the identity.

    Args:
        data: the bytes as stored.
        config: descriptor of the config blob.
        layers: descriptors in manifest order.
        artifact_type: as stated, else the config's media type (OCI rule).
        subject: the manifest this one is about, for statements.
        annotations: of the manifest.
    """

    data: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str
    subject: Descriptor | None
    annotations: Mapping[str, str]

    @property
    def digest(self) -> Digest:
        """The artifact's identity."""
        return Digest.of(self.data)

    @property
    def size(self) -> int:
        """Bytes of all layers together."""
        return sum(layer.size for layer in self.layers)

    def entries(self) -> tuple[Entry, ...]:
        """The files, sorted by path, safe to write out.

        Raises:
            InvalidInput: a layer has no file name, is not raw, or the names are unsafe or collide.
        """
        found = tuple(sorted((_entry(layer) for layer in self.layers), key=lambda entry: entry.path))
        check_together(entry.path for entry in found)
        return found

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest; unknown fields are ignored and kept in the bytes.

        Raises:
            InvalidInput: not an OCI image manifest, or over ``MAX_MANIFEST`` bytes (code ``invalid-manifest``).
        """
        if len(data) > MAX_MANIFEST:
            raise _invalid(f"manifest has {len(data):,} bytes, at most {MAX_MANIFEST:,} are read")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _invalid(f"manifest is not JSON ({error})") from error
        if not isinstance(body, Mapping) or body.get("schemaVersion") != 2:
            raise _invalid("manifest is not an OCI image manifest (schemaVersion 2)")
        if body.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
            raise _invalid(f"manifest has media type {body.get('mediaType')!r}, expected {MANIFEST_TYPE}")
        layers, annotations, subject = body.get("layers"), body.get("annotations") or {}, body.get("subject")
        if not isinstance(layers, list) or not isinstance(annotations, Mapping):
            raise _invalid("manifest needs a list of layers, and annotations must be an object")
        config = Descriptor.from_json(body.get("config"))
        stated = body.get("artifactType")
        return cls(
            data,
            config,
            tuple(Descriptor.from_json(layer) for layer in layers),
            stated if isinstance(stated, str) and stated else config.media_type,
            Descriptor.from_json(subject) if subject is not None else None,
            {str(key): str(value) for key, value in annotations.items()},
        )


def build(entries: Iterable[Entry]) -> tuple[Manifest, bytes]:
    """The manifest of some files, and its config blob, in profile 1.

    Raises:
        InvalidInput: no entry, an unsafe or colliding path, or more entries than a 4 MiB manifest holds
            (code ``too-many-files``).
    """
    ordered = sorted(entries, key=lambda entry: (KINDS.index(kind_of(entry.path)), entry.path.encode()))
    if not ordered:
        raise InvalidInput(
            "there is nothing to pack: no files", code="empty-tree", hint="empty folders are not part of an artifact"
        )
    for entry in ordered:
        check_path(entry.path)
    check_together(entry.path for entry in ordered)
    config = _config(ordered)
    body: dict[str, Json] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": [
            {
                "mediaType": f"application/vnd.cncf.model.{kind_of(entry.path)}.v1.raw",
                "digest": str(entry.digest),
                "size": entry.size,
                "annotations": {FILEPATH: entry.path, TITLE: entry.path},
            }
            for entry in ordered
        ],
    }
    data = canonical(body)
    if len(data) > MAX_MANIFEST:
        raise InvalidInput(
            f"{len(ordered):,} files are more than one artifact holds: their manifest would have {len(data):,} bytes, "
            f"registries accept {MAX_MANIFEST:,} (about 10,000 files)",
            code="too-many-files",
            hint="leave files out with .assayignore, or put small files into one archive",
        )
    return Manifest.parse(data), config


def _config(entries: list[Entry]) -> bytes:
    found = model_format(entry.path for entry in entries)
    config: dict[str, Json] = {
        "config": {"format": found} if found else {},
        "descriptor": {},
        "modelfs": {"diffIds": [str(entry.digest) for entry in entries], "type": "layers"},
    }
    return canonical(config)


def _entry(layer: Descriptor) -> Entry:
    path = layer.annotations.get(FILEPATH) or layer.annotations.get(LEGACY_FILEPATH) or layer.annotations.get(TITLE)
    if not path:
        raise _invalid(f"layer {layer.digest.short} has no file name (annotation {FILEPATH} or {TITLE})")
    if layer.media_type.endswith((".tar", "+gzip", "+zstd", ".tar.gzip")):
        raise InvalidInput(
            f"layer {path!r} is packed as {layer.media_type}; only raw layers (one file each) can be read",
            code="packed-layer",
            path=path,
        )
    return Entry(check_path(path), layer.digest, layer.size)


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid-manifest")
