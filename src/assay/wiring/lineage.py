"""Tracing lineage in a home, and proposing edges from sketches of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assay.errors import AssayError, NotFound, Refused, StorageError
from assay.later import later
from assay.ports.progress import SILENT, Progress
from assay.service.ancestry import Ancestry
from assay.service.declared import Declared
from assay.service.lineage import add_base, relation_of, retract, trace
from assay.service.publish import Base
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.lineage import Edge, Lineage, Relation, Source
from assay.spec.records import Version
from assay.spec.reference import check_name
from assay.wiring.looking import open_version
from assay.wiring.places import DECLARED, SKETCHES

if TYPE_CHECKING:
    from assay.compare import kin, sketches
    from assay.compare.kin import Kin
    from assay.compare.sketches import Sketch
else:
    kin = later("assay.compare.kin")
    sketches = later("assay.compare.sketches")

_THIRDS = 50
"""Kin that are asked whether they lie between two others."""
_RANKED = 3
"""Proposals whose change is looked at for its rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How lineage is looked for.

    Args:
        up, down: which ways to go.
        depth: steps to go; None goes to the end.
        detect: whether edges are proposed from the weights.
        among: models to search in; all when empty.
        progress: hears about what is read.
    """

    up: bool = True
    down: bool = True
    depth: int | None = None
    detect: bool = False
    among: tuple[str, ...] = ()
    progress: Progress = SILENT


def lineage(registry: Registry, version: Version, search: Search) -> Lineage:
    """What a version was made from, and what was made from it.

    Raises:
        NotFound: edges are to be detected, and its bytes are not here, or there is no such model to search in.
    """
    ancestry = Ancestry(registry, declared(registry), search.progress)
    proposed = detect(registry, version, ancestry, search) if search.detect else ()
    return trace(ancestry, version, proposed=proposed, up=search.up, down=search.down, depth=search.depth)


def detect(registry: Registry, version: Version, ancestry: Ancestry, search: Search) -> tuple[Edge, ...]:
    """Edges that sketches of the weights suggest between a version and others, nearest first.

    Weights do not tell which of two came first: the one that was pushed first counts as the base. What is said already,
    or was denied, is not proposed, nor is a kin to which another one is nearer than the two are to each other: a
    sibling, or an ancestor's ancestor.

    Raises:
        NotFound: its bytes are not here, or there is no such model to search in.
    """
    near = _kin_of(registry, version, search)
    settled = {frozenset((edge.start, edge.target)) for edge in ancestry.edges}
    found: list[Edge] = []
    for one in near:
        base, child = (one.version, version) if one.older else (version, one.version)
        if frozenset((str(base.manifest), str(child.manifest))) in settled or _between(one, near):
            continue
        if base.manifest not in ancestry.denied(child.manifest):
            rank = _rank(registry, base, child, one.shown) if len(found) < _RANKED else None
            found.append(_edge(base, child, one.shown, Source.DETECTED, rank))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Near:
    """A version whose weights have a common origin with those of the one asked about."""

    version: Version
    sketch: Sketch
    older: bool
    shown: Kin


def _kin_of(registry: Registry, version: Version, search: Search) -> list[_Near]:
    own, mine = sketch_of(registry, version), _pushed(registry, version.manifest)
    near: list[_Near] = []
    candidates = list(_candidates(registry, version, search.among))
    search.progress.start("comparing weights", sum(candidate.size for candidate in candidates))
    try:
        for candidate in candidates:
            search.progress.advance(candidate.size)
            try:
                other = sketch_of(registry, candidate)
            except AssayError:
                continue  # what cannot be read is no candidate; assay verify says what is wrong with it
            shown = kin.kin(other, own)
            older = shown is None or _pushed(registry, candidate.manifest) <= mine
            if not older:
                shown = kin.kin(own, other)
            if shown is not None:
                near.append(_Near(candidate, other, older, shown))
    finally:
        search.progress.finish()
    return sorted(near, key=lambda one: one.shown.distance)


def _between(one: _Near, near: Sequence[_Near]) -> bool:
    """Whether a third is nearer to both than they are to each other (the rule of relative neighbourhood graphs)."""
    for third in near[:_THIRDS]:
        if third.shown.distance >= one.shown.distance:
            return False
        if third is not one:
            apart = kin.kin(third.sketch, one.sketch)
            if apart is not None and apart.distance < one.shown.distance:
                return True
    return False


def _rank(registry: Registry, base: Version, child: Version, shown: Kin) -> int | None:
    """The rank of the change, where that is low and the files can be read."""
    if shown.relation is not Relation.FINETUNED_FROM:
        return None
    try:
        with open_version(registry, base) as old, open_version(registry, child) as new:
            return kin.merged_rank(old, new, shown)
    except AssayError:
        return None


def confirm(registry: Registry, version: Version, base: Version, *, relation: str | None = None) -> Edge:
    """Record as confirmed that a version was made from another, with the evidence that its weights give.

    Args:
        registry: where.
        version, base: the two.
        relation: how; as the weights suggest when None.

    Raises:
        Refused: the weights do not show it (code ``not-kin``); nothing is recorded.
        NotFound: the bytes of one of them are not here.
        InvalidInput: it would be its own ancestor (code ``lineage-cycle``), or there is no such relation.
    """
    shown = kin.kin(sketch_of(registry, base), sketch_of(registry, version))
    if shown is None:
        raise Refused(
            f"the weights do not show that {version.reference} was made from {base.reference}",
            code="not-kin",
            hint=f"assay lineage {version.reference} --base {base.reference} records it on your word alone",
        )
    edge = _edge(base, version, shown, Source.CONFIRMED, _rank(registry, base, version, shown))
    if relation is not None:
        edge = replace(edge, relation=relation_of(relation))
    said = Base(base.reference, edge.relation, edge.source, edge.evidence)
    add_base(registry, version, said, declared(registry))
    return edge


def say(registry: Registry, version: Version, bases: Sequence[Base]) -> tuple[bool, ...]:
    """Record what a version was made from; for each, whether that is new.

    Raises:
        As ``service.lineage.add_base``.
    """
    return tuple(add_base(registry, version, base, declared(registry)) for base in bases)


def take_back(
    registry: Registry, version: Version, name: str, *, relation: str | None = None, reason: str = ""
) -> tuple[str, ...]:
    """Take back what is said about a version and a base; the relations.

    Raises:
        As ``service.lineage.retract``.
    """
    gone = retract(registry, version, name, declared(registry), relation=relation, reason=reason)
    return tuple(relation.value for relation in gone)


def forget(registry: Registry, version: Version) -> None:
    """Remove what the home remembers of an artifact that was purged: elements of its weights, and what was said of it.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        sketches.forget(registry.state / SKETCHES, version.manifest)
        declared(registry).forget({str(found.manifest) for found in registry.catalog.referrers(version.manifest)})
    except OSError as error:
        raise StorageError.of(error, f"cannot forget what is remembered of {version.reference}") from error


def declared(registry: Registry) -> Declared:
    """What a home remembers of statements."""
    return Declared(registry.state / DECLARED)


def sketch_of(registry: Registry, version: Version) -> Sketch:
    """The sketch of a version's weights: from memory, else made now.

    Raises:
        NotFound: its bytes are not here.
    """
    folder = registry.state / SKETCHES
    if not version.gone and (known := sketches.remembered(folder, version.manifest)) is not None:
        return known
    with open_version(registry, version) as artifact:
        made = sketches.sketch(artifact)
    sketches.remember(folder, version.manifest, made)
    return made


def _candidates(registry: Registry, version: Version, among: Sequence[str]) -> Iterable[Version]:
    """Other artifacts that can be read, each once, of the models to search in."""
    names = [check_name(name) for name in among] or [model.name for model in registry.catalog.models()]
    seen = {version.manifest}
    for name in names:
        versions = registry.catalog.versions(name)
        if not versions:
            raise NotFound(f"no model {name!r} to search in", code="model-not-found", hint="assay ls shows the models")
        for one in versions:
            if one.manifest not in seen and not one.gone:
                seen.add(one.manifest)
                yield one


def _pushed(registry: Registry, manifest: Digest) -> tuple[object, ...]:
    """When an artifact was first pushed, in a form that orders pushes of one moment by what they gave."""
    first = min(registry.catalog.by_manifest(manifest), key=lambda one: (one.created, one.name, one.number))
    return first.created, first.name, first.number


def _edge(base: Version, child: Version, shown: Kin, source: Source, rank: int | None) -> Edge:
    return Edge(
        subject=child.manifest,
        relation=shown.relation,
        name=base.reference,
        reference=base.reference,
        manifest=base.manifest,
        source=source,
        evidence=shown.evidence if rank is None else {**shown.evidence, "rank": rank},
    )
