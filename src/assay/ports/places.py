"""The port of places that are not a registry of ours: somebody's index of tagged manifests over a blob store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest


class TagIndex(Protocol):
    """Tagged manifests, and manifests about them (an OCI image layout's ``index.json``, an OCI repository)."""

    @property
    def place(self) -> str:
        """Where it is, as a person would type it."""
        ...

    def tags(self) -> Mapping[str, Descriptor]:
        """Every tag and what it points at.

        Raises:
            NotFound: there is nothing at this place.
            BadFormat: what is there is not such an index.
        """
        ...

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests whose subject is *subject*, in index order."""
        ...

    def put(self, descriptor: Descriptor, *, tag: str | None = None) -> None:
        """List a manifest, atomically; a tag moves to it from wherever it was. Listing it again changes nothing.

        Raises:
            StorageError: nothing is changed.
        """
        ...
