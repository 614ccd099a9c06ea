"""What must be known of a blob before reading it (OCI image-spec, ``descriptor.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.json import Json


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest, size and annotations of a blob."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InvalidInput(f"descriptor of {self.digest} has a negative size: {self.size}", code="invalid-manifest")

    def to_json(self) -> dict[str, Json]:
        """The descriptor as OCI writes it."""
        body: dict[str, Json] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        if self.artifact_type:
            body["artifactType"] = self.artifact_type
        return body

    @classmethod
    def from_json(cls, body: object) -> Descriptor:
        """Read a descriptor out of a manifest; unknown fields are ignored, as OCI asks of readers.

        Raises:
            InvalidInput: a required field is missing or has another type.
        """
        if not isinstance(body, Mapping):
            raise InvalidInput(f"descriptor is not an object: {body!r:.100}", code="invalid-manifest")
        media_type, digest, size = body.get("mediaType"), body.get("digest"), body.get("size")
        annotations = body.get("annotations") or {}
        if not (
            isinstance(media_type, str)
            and isinstance(digest, str)
            and isinstance(size, int)
            and not isinstance(size, bool)
            and isinstance(annotations, Mapping)
            and all(isinstance(key, str) and isinstance(value, str) for key, value in annotations.items())
        ):
            raise InvalidInput(
                "descriptor needs mediaType, digest and size, and annotations must be strings", code="invalid-manifest"
            )
        artifact_type = body.get("artifactType")
        return cls(
            media_type,
            Digest.parse(digest),
            size,
            dict(annotations),
            artifact_type if isinstance(artifact_type, str) else None,
        )
