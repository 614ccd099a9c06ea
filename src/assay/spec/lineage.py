"""Where a model came from: edges from an artifact to what it was made from or by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from assay.spec.digest import Digest
from assay.spec.json import Json


class Relation(StrEnum):
    """What the subject is to the other end. Append-only: values are written into statements."""

    TRAINED_BY = "trained-by"
    FINETUNED_FROM = "finetuned-from"
    QUANTIZED_FROM = "quantized-from"
    ADAPTER_OF = "adapter-of"
    MERGED_FROM = "merged-from"
    CONVERTED_FROM = "converted-from"
    DISTILLED_FROM = "distilled-from"


class Source(StrEnum):
    """Who says so. Append-only."""

    GIVEN = "given"
    """A person, at push or later."""
    FILES = "files"
    """The artifact's own files (a model card, an adapter's settings)."""
    DETECTED = "detected"
    """Concluded from the weights, and confirmed by nobody."""
    CONFIRMED = "confirmed"
    """Concluded from the weights, and confirmed by a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One relation.

    Args:
        subject: digest of the artifact it is about.
        relation: what it is to the other end.
        name: the other end as it was named: a reference, a hub name, a URI, a run.
        reference: ``NAME:N`` of the other end, where it is a version here.
        manifest: digest of the other end, where it is known.
        source: who says so.
        evidence: what it was concluded from.
    """

    subject: Digest
    relation: Relation
    name: str
    reference: str | None = None
    manifest: Digest | None = None
    source: Source = Source.GIVEN
    evidence: Mapping[str, Json] = field(default_factory=dict)
