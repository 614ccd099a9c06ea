"""What is packed: which files of which artifacts, and in which order.

Which: the files of artifacts, of 4 KiB and more. Manifests, configurations and statements are read all the time, and
stay as they are; so does what an alias points at that is to stay fast, and what is younger than was asked for.

In which order: families together, and in each a base before what was made from it, so that a tune finds its base.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from assay.errors import AssayError, InvalidInput, NotFound
from assay.ports.formats import Format
from assay.ports.packs import Effort, Packing, Stretch, ToPack
from assay.service.examine import inspect
from assay.service.packing_order import Family, families
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.lineage import Edge
from assay.spec.manifest import Entry
from assay.spec.records import Version
from assay.spec.tensor import ELEMENT_BITS, TensorSpec
from assay.trees import Tree

LEAST = 4 << 10
"""Bytes of the smallest file that is packed."""

MOST_OTHERS = 16 << 30
"""Bytes of a file beside its tensors: more would be cut into more parts than a pack's directory can list."""

NEAR = 8
"""Files in which bases are looked for first."""


class Why(StrEnum):
    """Why a file is not packed. Append-only: values are printed as JSON."""

    KEPT = "kept-raw"
    """An alias that is to stay fast points at it."""
    YOUNG = "too-young"
    SMALL = "too-small"
    CHANGED = "added-meanwhile"
    MISSING = "missing"
    LARGE = "too-many-parts"
    UNREADABLE = "unreadable"
    """The manifest of the version cannot be read: nobody knows its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be packed.

    Args:
        versions: which; None: every version that is not gone.
        older_than: only files that no version younger than this has.
        keep_raw: aliases; files that any version has at which one of this name points stay as they are.
        effort: how hard to try.
    """

    versions: Sequence[Version] | None = None
    older_than: timedelta | None = None
    keep_raw: Sequence[str] = ()
    effort: Effort = Effort.DEFAULT


@dataclass(frozen=True, slots=True)
class Spared:
    """Files that are not packed, for one reason.

    Args:
        why: the reason.
        of: the alias or the version that it comes from; empty where there is none.
        blobs: how many.
        bytes: of them.
    """

    why: Why
    of: str
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """The files of one artifact that are to be packed.

    Args:
        version: the oldest version that is it.
        wanted: its files, with what helps to pack them.
        sizes: bytes of each.
    """

    version: Version
    wanted: tuple[ToPack, ...]
    sizes: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be packed.

    Args:
        jobs: artifacts, in the order in which they are packed.
        spared: what stays as it is.
        already: files that are packed already: how many, and their bytes.
        effort: how hard to try.
        files: where each blob is a file: references and paths.
        touched: artifacts that have any of the files, among those that were asked for.
    """

    jobs: tuple[Job, ...]
    spared: tuple[Spared, ...]
    already: tuple[int, int]
    effort: Effort
    files: Mapping[Digest, Sequence[str]] = field(repr=False)
    touched: tuple[Digest, ...] = ()

    @property
    def blobs(self) -> int:
        """How many."""
        return sum(len(job.wanted) for job in self.jobs)

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        return sum(job.bytes for job in self.jobs)


def plan(registry: Registry, wish: Wish, formats: Sequence[Format], edges: Iterable[Edge], *, now: datetime) -> Plan:
    """What would be packed; nothing is changed.

    Args:
        registry: where.
        wish: what is asked for.
        formats: to find tensors with.
        edges: what was made from what, as far as it is known.
        now: the time.

    Raises:
        InvalidInput: this registry's store cannot pack (code ``cannot-pack``).
        NotFound: no model has an alias that is to stay raw (code ``alias-not-found``).
    """
    return _Planner(registry, wish, formats, now).plan(edges)


def packing_of(registry: Registry) -> Packing:
    """The registry's store, as one that packs.

    Raises:
        InvalidInput: it does not (code ``cannot-pack``).
    """
    if not isinstance(registry.blobs, Packing):
        raise InvalidInput(f"the store of {registry.place} cannot pack blobs", code="cannot-pack")
    return registry.blobs


class _Planner:
    def __init__(self, registry: Registry, wish: Wish, formats: Sequence[Format], now: datetime) -> None:
        self._registry, self._wish, self._formats, self._now = registry, wish, formats, now
        self._store = packing_of(registry)
        self._entries: dict[Digest, Sequence[Entry]] = {}
        self._spared: dict[tuple[Why, str], list[int]] = defaultdict(list)
        self._already: list[int] = []
        self._files: dict[Digest, list[str]] = {}
        self._stays: dict[Digest, tuple[Why, str]] = {}
        self._chosen: set[Digest] = set()
        self._touched: list[Digest] = []

    def plan(self, edges: Iterable[Edge]) -> Plan:
        live = self._live()
        self._stay(live)
        asked = live if self._wish.versions is None else [one for one in self._wish.versions if not one.gone]
        chosen = {one.manifest for one in asked}
        jobs = [job for family in families(live, edges, chosen) if (job := self._job(family)).wanted]
        spared = tuple(Spared(why, of, len(sizes), sum(sizes)) for (why, of), sizes in self._spared.items())
        already = (len(self._already), sum(self._already))
        return Plan(tuple(jobs), spared, already, self._wish.effort, self._files, tuple(self._touched))

    def _live(self) -> list[Version]:
        """Every version that is not gone, oldest first."""
        found = [
            version
            for model in self._registry.catalog.models()
            for version in self._registry.catalog.versions(model.name)
            if not version.gone
        ]
        return sorted(found, key=lambda one: (one.created, one.name, one.number))

    def _stay(self, live: Sequence[Version]) -> None:
        """Note which blobs stay raw, and why; a blob that any hot version has is hot."""
        hot = {(one.name, one.number): one for one in live}
        for name in dict.fromkeys(self._wish.keep_raw):
            models = [one for one in self._registry.catalog.models() if name in one.aliases]
            if not models:
                raise NotFound(
                    f"no model in {self._registry.place} has an alias {name!r}, whose files were to stay raw",
                    code="alias-not-found",
                    hint="assay ls shows the aliases there are",
                )
            for model in models:
                version = hot.get((model.name, model.aliases[name]))
                for entry in self._files_of(version) if version else ():
                    self._stays.setdefault(entry.digest, (Why.KEPT, f"{model.name}:{name}"))
        if self._wish.older_than is not None:
            for version in live:
                if version.created > self._now - self._wish.older_than:
                    for entry in self._files_of(version):
                        self._stays.setdefault(entry.digest, (Why.YOUNG, version.reference))

    def _files_of(self, version: Version) -> Sequence[Entry]:
        """A version's files; none where its manifest cannot be read, which is noted once."""
        if version.manifest not in self._entries:
            try:
                self._entries[version.manifest] = tuple(self._registry.manifest(version).entries())
            except AssayError:
                self._entries[version.manifest] = ()
                self._spared[Why.UNREADABLE, version.reference].append(0)
        return self._entries[version.manifest]

    def _job(self, family: Family) -> Job:
        """What is to be packed of one artifact, without what another one had before it."""
        wanted: dict[Digest, Entry] = {}
        for entry in self._files_of(family.version):
            known = entry.digest in self._files
            self._files.setdefault(entry.digest, []).append(f"{family.version.reference} {entry.path}")
            if not known and self._is_wanted(entry):
                wanted[entry.digest] = entry
        self._chosen |= wanted.keys()
        if any(entry.digest in self._chosen for entry in self._files_of(family.version)):
            self._touched.append(family.version.manifest)
        tensors = self._tensors(self._files_of(family.version)) if wanted else {}
        for entry in list(wanted.values()):
            if entry.size - sum(one.length for one in tensors.get(entry.path, ())) > MOST_OTHERS:
                self._spared[Why.LARGE, ""].append(wanted.pop(entry.digest).size)
        near = [self._files_of(version) for version in family.near] if wanted else []
        return Job(
            family.version,
            tuple(ToPack(one.digest, tensors.get(one.path, ()), _near(one, near)) for one in wanted.values()),
            tuple(one.size for one in wanted.values()),
        )

    def _is_wanted(self, entry: Entry) -> bool:
        size = self._registry.blobs.size(entry.digest)
        if size is None:
            self._spared[Why.MISSING, ""].append(0)
        elif size < LEAST:
            self._spared[Why.SMALL, ""].append(size)
        elif self._store.is_packed(entry.digest) and not self._store.is_raw(entry.digest):
            self._already.append(size)
        elif entry.digest in self._stays:
            self._spared[self._stays[entry.digest]].append(size)
        else:
            return True
        return False

    def _tensors(self, entries: Iterable[Entry]) -> dict[str, tuple[Stretch, ...]]:
        """Where tensors lie in files, by path; what files say of it is only a hint where to cut."""
        blobs = self._registry.blobs
        tree = Tree({one.path: blobs.open(one.digest) for one in entries if blobs.size(one.digest) is not None})
        found: dict[str, dict[tuple[int, int], Stretch]] = defaultdict(dict)
        for described in inspect(tree, self._formats).descriptions:
            for spec in described.tensors:
                if spec.extent is not None:
                    place = (spec.extent.offset, spec.extent.length)
                    found[spec.extent.path].setdefault(place, Stretch(*place, spec.name, _words_of(spec)))
        return {path: tuple(stretches.values()) for path, stretches in found.items()}


def _words_of(spec: TensorSpec) -> str:
    """The dtype; of numbers whose bytes are turned around, that of whole numbers as wide: signs lie elsewhere."""
    bits = ELEMENT_BITS.get(spec.dtype)
    return f"uint{bits}" if spec.big_endian and bits in (16, 32, 64) else spec.dtype


def _near(entry: Entry, others: Sequence[Sequence[Entry]]) -> tuple[Digest, ...]:
    """Files of other artifacts that are likely to be like this one: of its name first, then those of its size."""
    found: dict[Digest, None] = {}
    for entries in others:
        alike = [one for one in entries if one.size >= LEAST and one.digest != entry.digest]
        for one in sorted(alike, key=lambda one: (one.path != entry.path, abs(one.size - entry.size)))[: NEAR // 2]:
            found.setdefault(one.digest)
    return tuple(found)[:NEAR]
