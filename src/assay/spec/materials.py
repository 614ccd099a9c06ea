"""Materials: the observed facts that bills of materials and provenance are written from.

A document says what somebody looked at: files and their digests, what formats read in them, what was said when the
model was pushed, which licences lie in the files. What nobody observed is absent here, and stays absent in documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.manifest import Entry


@dataclass(frozen=True, slots=True)
class LicenceClaim:
    """What one place in an artifact says about its licence.

    Args:
        path: the entry that says so.
        stated: in its own words: a metadata value, or the first line of a licence file.
        identifiers: SPDX identifiers or ``LicenseRef-`` names that were recognised; empty when none was.
        text: whether the entry is a licence's own text; otherwise it is metadata that names one.
        third_party: whether the text is somebody else's notice, or that of a part, not that of the whole.
    """

    path: str
    stated: str
    identifiers: tuple[str, ...]
    text: bool
    third_party: bool = False

    def to_json(self) -> dict[str, Json]:
        """The claim as a JSON object."""
        return {
            "path": self.path,
            "stated": self.stated,
            "identifiers": list(self.identifiers),
            "text": self.text,
            "third_party": self.third_party,
        }


@dataclass(frozen=True, slots=True)
class LicenceConflict:
    """Metadata that names one licence beside a file that holds another.

    Args:
        metadata: what is named.
        file: what is there.
    """

    metadata: LicenceClaim
    file: LicenceClaim

    @property
    def message(self) -> str:
        """The conflict in one line."""
        found = " and ".join(self.file.identifiers)
        return f"{self.metadata.path} says {self.metadata.stated}, but {self.file.path} is {found}"

    def to_json(self) -> dict[str, Json]:
        """The conflict as a JSON object."""
        return {"metadata": self.metadata.to_json(), "file": self.file.to_json(), "message": self.message}


@dataclass(frozen=True, slots=True)
class Licences:
    """Everything an artifact says about its licence, and where it contradicts itself."""

    claims: tuple[LicenceClaim, ...] = ()
    conflicts: tuple[LicenceConflict, ...] = ()

    def identifiers(self, *, text: bool) -> tuple[str, ...]:
        """What licence texts (or metadata) come to for the whole, each once, in order of appearance."""
        own = (claim for claim in self.claims if claim.text is text and not claim.third_party)
        return tuple(dict.fromkeys(name for claim in own for name in claim.identifiers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one artifact.

    Args:
        name: the model's name, or the base name of a path.
        digest: of its manifest; for plain files, of the manifest that they would have.
        created: when the newest of these facts was stated; for plain files, when the newest file was written.
        tool: version of Assay that observed them.
        entries: the files.
        inspection: as ``docs/spec/description.md`` says.
        licences: of the files.
        said: kind of statement to the newest predicate of that kind.
        version: number of the version; None for plain files.
        supplier: who numbered it.
        released: when it was numbered.
    """

    name: str
    digest: Digest
    created: datetime
    tool: str
    entries: Sequence[Entry]
    inspection: Mapping[str, Json]
    licences: Licences
    said: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    version: int | None = None
    supplier: str | None = None
    released: datetime | None = None
