"""Statements: what somebody says about an artifact, apart from its content.

Form: an in-toto Statement v1 (``https://in-toto.io/Statement/v1``) whose subject is the artifact's manifest digest,
kept as the only layer of an OCI image manifest with ``subject`` (a *referrer*), so that claims travel with the model
through any registry and never change its identity. Written format: ``docs/spec/statements.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from assay.errors import InvalidInput
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.manifest import ARTIFACT_TYPE, MANIFEST_TYPE, Manifest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
LAYER_TYPE = "application/vnd.in-toto+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY_JSON = b"{}"
PREDICATE_TYPE_KEY = "in-toto.io/predicate-type"
CREATED_KEY = "org.opencontainers.image.created"
_PREDICATE_BASE = "https://assay.dev/statement"
_ARTIFACT_BASE = "application/vnd.assay.statement"
_VERSION = ".v1+json"

KINDS = (
    "description",
    "run",
    "params",
    "metrics",
    "base",
    "environment",
    "note",
    "audit",
    "conversion",
    "evaluation",
    "example",
    "rehearsal",
    "approval",
    "origin",
)
"""Kinds of statement that Assay itself writes; append-only."""


def artifact_type_of(kind: str) -> str:
    """The media type that registries filter referrers by, of a kind of statement.

    >>> artifact_type_of("metrics"), artifact_type_of("https://example.org/of-others")
    ('application/vnd.assay.statement.metrics.v1+json', 'application/vnd.in-toto+json')
    """
    return f"{_ARTIFACT_BASE}.{kind}{_VERSION}" if kind in KINDS else LAYER_TYPE


def kind_of(artifact_type: str) -> str | None:
    """The kind of statement that a media type stands for; None where it is none of ours.

    >>> kind_of("application/vnd.assay.statement.metrics.v1+json"), kind_of("application/vnd.in-toto+json")
    ('metrics', None)
    """
    named = artifact_type.startswith(f"{_ARTIFACT_BASE}.") and artifact_type.endswith(_VERSION)
    return artifact_type[len(_ARTIFACT_BASE) + 1 : -len(_VERSION)] if named else None


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim about one artifact.

    Args:
        subject: digest of the artifact's manifest.
        kind: one of ``KINDS``, or the predicate type URI of somebody else's statement.
        predicate: what is claimed.
        created: when it was said, UTC.
    """

    subject: Digest
    kind: str
    predicate: Mapping[str, Json]
    created: datetime

    @property
    def predicate_type(self) -> str:
        """The URI of the predicate's type."""
        return f"{_PREDICATE_BASE}/{self.kind}/v1" if self.kind in KINDS else self.kind

    @property
    def artifact_type(self) -> str:
        """The media type that registries filter referrers by."""
        return artifact_type_of(self.kind)

    def document(self) -> bytes:
        """The in-toto statement's canonical bytes."""
        return canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": "artifact", "digest": {self.subject.algorithm: self.subject.hex}}],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    def manifest(self, subject_size: int) -> Manifest:
        """The referrer manifest that carries the statement.

        Args:
            subject_size: bytes of the artifact's manifest.
        """
        document = self.document()
        created = self.created.strftime("%Y-%m-%dT%H:%M:%SZ")
        body: dict[str, Json] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": self.artifact_type,
            "config": Descriptor(EMPTY_TYPE, Digest.of(EMPTY_JSON), len(EMPTY_JSON)).to_json(),
            "layers": [Descriptor(LAYER_TYPE, Digest.of(document), len(document)).to_json()],
            "subject": Descriptor(MANIFEST_TYPE, self.subject, subject_size, artifact_type=ARTIFACT_TYPE).to_json(),
            "annotations": {CREATED_KEY: created, PREDICATE_TYPE_KEY: self.predicate_type},
        }
        return Manifest.parse(canonical(body))

    @classmethod
    def parse(cls, document: bytes, *, created: datetime) -> Statement:
        """Read an in-toto statement.

        Raises:
            InvalidInput: it is not one, or has not exactly one sha256 subject (code ``invalid-statement``).
        """
        try:
            body = json.loads(document)
            (subject,) = body["subject"]
            digest = Digest("sha256", subject["digest"]["sha256"])
            predicate, predicate_type = body["predicate"], body["predicateType"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(
                f"not an in-toto statement about one artifact ({error})", code="invalid-statement"
            ) from error
        if not isinstance(predicate, Mapping) or not isinstance(predicate_type, str):
            raise InvalidInput("in-toto statement has no predicate object", code="invalid-statement")
        kind = predicate_type
        if predicate_type.startswith(f"{_PREDICATE_BASE}/") and predicate_type.endswith("/v1"):
            kind = predicate_type.removeprefix(f"{_PREDICATE_BASE}/").removesuffix("/v1")
        return cls(digest, kind, predicate, created)
