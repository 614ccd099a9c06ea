"""An OCI image index (image-spec ``image-index.md``) that others write into as well: what is theirs stays as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.errors import BadFormat, InvalidInput
from assay.spec.descriptor import Descriptor
from assay.spec.json import Json

REF_NAME = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Index:
    """An index as it was written.

    Args:
        body: all of it.
        listed: its manifests as they are written there.
        descriptors: what we read of each of them.
    """

    body: Mapping[str, Json]
    listed: Sequence[Json]
    descriptors: Sequence[Descriptor]

    @classmethod
    def parse(cls, data: bytes, *, may_lack: bool = False) -> Index:
        """Read an index.

        Args:
            data: its bytes.
            may_lack: take one without a list for an empty one, as some registries say that nothing is there.

        Raises:
            BadFormat: it is none; the message says only why.
        """
        try:
            body = json.loads(data)
            if not isinstance(body, dict):
                raise TypeError("it is no object")  # noqa: TRY301 - told with the others below
            listed = list((body.get("manifests") or ()) if may_lack else body["manifests"])
            return cls(body, listed, [Descriptor.from_json(item) for item in listed])
        except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
            raise BadFormat(f"{error!s:.200}") from error

    def with_one(self, wanted: Descriptor, tag: str | None = None) -> bytes:
        """The same index with one manifest more, in the place of what had its tag; without a tag, once is enough."""
        there = not tag and any(found.digest == wanted.digest for found in self.descriptors)
        kept = [
            entry
            for entry, found in zip(self.listed, self.descriptors, strict=True)
            if not tag or found.annotations.get(REF_NAME) != tag
        ]
        body = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            **self.body,
            "manifests": kept if there else [*kept, wanted.to_json()],
        }
        return json.dumps(body, indent=2, sort_keys=True).encode()


EMPTY = Index({}, (), ())
