"""Lineage: tracing where a version came from and what came from it, saying what it was made from, taking that back.

Statements are never changed or removed one by one. A wrong edge is taken back by a later ``base`` statement about the
same other end with ``retracted``; one that is said again after that carries a higher ``revision``. The highest revision
speaks, whatever the order in which statements arrive by copying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from assay.errors import InvalidInput, NotFound
from assay.service.ancestry import Ancestry
from assay.service.declared import Declared
from assay.service.publish import Base, base_predicate
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.lineage import BASE_RELATIONS, Condition, Edge, Graph, Lineage, Node, Relation, Source
from assay.spec.records import Version
from assay.spec.statement import Statement


def bases_given(names: Sequence[str], relation: str | None) -> tuple[Base, ...]:
    """What a person says a model was made from.

    Args:
        names: references, or any names or URIs.
        relation: how; fine-tuned from one, merged from several when None.

    Raises:
        InvalidInput: there is no such relation, or a relation to nothing (codes ``unknown-relation``,
            ``invalid-base``).
    """
    if relation is not None and not names:
        raise InvalidInput(
            f"{relation} what? a relation needs a base", code="invalid-base", hint="name it with --base REF (base=)"
        )
    usual = Relation.FINETUNED_FROM if len(set(names)) < 2 else Relation.MERGED_FROM
    chosen = usual if relation is None else relation_of(relation)
    return tuple(Base(name, chosen) for name in dict.fromkeys(names))


def relation_of(text: str) -> Relation:
    """A relation to a base by its name.

    Raises:
        InvalidInput: there is none (code ``unknown-relation``).
    """
    known = [relation.value for relation in BASE_RELATIONS]
    if text not in known:
        hint = "the training run is given by --run" if text == Relation.TRAINED_BY else None
        raise InvalidInput(
            f"no relation {text!r:.60}; expected one of {', '.join(known)}", code="unknown-relation", hint=hint
        )
    return Relation(text)


def trace(
    ancestry: Ancestry,
    version: Version,
    *,
    proposed: Sequence[Edge] = (),
    up: bool = True,
    down: bool = True,
    depth: int | None = None,
) -> Lineage:
    """What a version was made from, and what was made from it, over all models.

    Args:
        ancestry: the edges of the registry.
        version: which.
        proposed: detected edges; they are shown, and warn of nothing.
        up, down: which ways to go.
        depth: steps to go; None goes to the end.
    """
    root = str(version.manifest)
    known = {(edge.start, edge.target) for edge in ancestry.edges}
    fresh = [edge for edge in proposed if (edge.start, edge.target) not in known]
    every = Graph((*ancestry.edges, *fresh))
    above = every.ancestors(root, depth) if up else {}
    below = every.descendants(root, depth) if down else {}
    kept = [
        edge
        for edge in (*ancestry.edges, *fresh)
        if (edge.target in above and (edge.start == root or edge.start in above))
        or (edge.start in below and (edge.target == root or edge.target in below))
    ]
    ancestry.learn(len(above) + len(below))
    names = {edge.target: edge.name for edge in kept}
    nodes = {key: _node(ancestry, key, names.get(key, key), version) for key in dict.fromkeys((root, *above, *below))}
    edges = tuple(replace(edge, reference=next(iter(nodes[edge.target].references), None)) for edge in kept)
    return Lineage(
        root=root,
        nodes=nodes,
        edges=edges,
        warnings=tuple(_warnings(ancestry, version)),
        unread=ancestry.unread,
    )


def add_base(registry: Registry, version: Version, base: Base, declared: Declared) -> bool:
    """Say what a version was made from; False when that is said already.

    Raises:
        NotFound: the version's bytes, or the base's version, are not here.
        InvalidInput: it would be its own ancestor, or the base is empty (codes ``lineage-cycle``, ``invalid-base``).
    """
    manifest = registry.manifest(version)
    predicate = base_predicate(registry, base)
    other = predicate.get("manifest")
    if other is not None:
        found = Digest.parse(str(other))
        graph = Graph(Ancestry(registry, declared).edges)
        if found == version.manifest or str(found) in graph.descendants(str(version.manifest)):
            raise InvalidInput(
                f"{predicate['reference']} is {version.reference}, or was made from it: it cannot be its base",
                code="lineage-cycle",
                hint=f"assay lineage {version.reference} --down shows what was made from it",
            )
    revision = _revision(registry, version, predicate, retracting=False)
    if revision is None:
        return False
    said = {**predicate, "revision": revision} if revision else predicate
    return registry.attach(Statement(version.manifest, "base", said, _now()), manifest)


def retract(
    registry: Registry, version: Version, name: str, declared: Declared, *, relation: str | None, reason: str
) -> tuple[Relation, ...]:
    """Take back what is said about a version and one base, or say that it was not made from it; the relations.

    Args:
        registry: where.
        version: which.
        name: the base, as it was named, or a reference to it.
        declared: what is remembered of statements.
        relation: the one to take back; all there are when None.
        reason: why.

    Raises:
        NotFound: nothing of that kind is said (code ``edge-not-found``).
        InvalidInput: the base is empty, or there is no such relation.
    """
    manifest = registry.manifest(version)
    wanted = None if relation is None else relation_of(relation)
    other = base_predicate(registry, Base(name, wanted or Relation.FINETUNED_FROM)).get("manifest")
    held = [
        edge
        for edge in Ancestry(registry, declared).edges
        if edge.subject == version.manifest
        and edge.relation is not Relation.TRAINED_BY
        and wanted in {None, edge.relation}
        and (edge.name == name or (edge.manifest is not None and str(edge.manifest) == other))
    ]
    found = [(edge.relation, edge.name) for edge in held]
    if not found and wanted is not None and other is not None:
        found = [(wanted, name)]  # so that detection does not propose it any more
    if not found:
        raise NotFound(
            f"nothing says that {version.reference} was made from {name}",
            code="edge-not-found",
            hint=f"assay lineage {version.reference} --up shows what is said; --relation denies it all the same",
        )
    for one, called in found:
        predicate = {**base_predicate(registry, Base(called, one)), "retracted": True, "reason": reason}
        revision = _revision(registry, version, predicate, retracting=True)
        if revision is not None:
            predicate = {**predicate, "revision": revision}
            registry.attach(Statement(version.manifest, "base", predicate, _now()), manifest)
    return tuple(one for one, _ in found)


def _revision(registry: Registry, version: Version, predicate: Mapping[str, Json], *, retracting: bool) -> int | None:
    """The revision that a new statement about the same other end needs; None when the newest says just that."""
    said = [
        statement.predicate
        for statement in registry.statements(version.manifest, "base")
        if statement.predicate.get("relation") == predicate["relation"]
        and (
            statement.predicate.get("name") == predicate["name"]
            or (predicate.get("manifest") and statement.predicate.get("manifest") == predicate["manifest"])
        )
    ]
    newest = max(said, key=_number, default=None)
    if newest is None:
        return 1 if retracting else 0
    if retracting == bool(newest.get("retracted")) and (retracting or newest.get("source") == predicate["source"]):
        return None
    return _number(newest) + 1


def _number(predicate: Mapping[str, Json]) -> int:
    value = predicate.get("revision")
    return value if isinstance(value, int) else 0


def _node(ancestry: Ancestry, key: str, name: str, asked: Version) -> Node:
    kind, space, rest = key.partition(" ")
    if space:
        return Node(key=key, name=rest, run=kind == "run")
    manifest = Digest.parse(key)
    versions = ancestry.versions(manifest)
    references = [version.reference for version in versions]
    if manifest == asked.manifest:
        references = list(dict.fromkeys([asked.reference, *references]))
    return Node(
        key=key,
        name=references[0] if references else name if name != key else manifest.short,
        references=tuple(references),
        conditions=tuple(_conditions(ancestry, manifest, versions)),
    )


def _conditions(ancestry: Ancestry, manifest: Digest, versions: Iterable[Version]) -> Iterable[Condition]:
    for version in versions:
        for kind in ("removed", "purged", "yanked"):
            reason = getattr(version, kind)
            if reason is not None:
                yield Condition(kind, reason, version.reference)
    audit = ancestry.audit(manifest)
    if audit is not None:
        yield audit


def _warnings(ancestry: Ancestry, version: Version) -> Iterable[str]:
    """What a person must know: ancestors not to be relied on, and how far the version's own condition reaches."""
    # What was concluded and confirmed by nobody accuses nobody.
    graph = Graph(edge for edge in ancestry.edges if edge.source is not Source.DETECTED)
    root = str(version.manifest)
    names = {edge.target: edge.name for edge in ancestry.edges}
    for key, steps in graph.ancestors(root).items():
        if key == root:
            continue
        node = _node(ancestry, key, names[key], version)
        how = "was made from" if steps == 1 else "descends from"
        for condition in node.conditions:
            called = condition.reference or node.name
            yield f"{version.reference} {how} {called}, which is {condition.kind}: {condition.reason}"
    own = _node(ancestry, root, root, version).conditions
    reached = [key for key in graph.descendants(root) if key != root]
    if own and reached:
        kinds = " and ".join(dict.fromkeys(condition.kind for condition in own))
        count = f"{len(reached)} artifacts descend" if len(reached) > 1 else "1 artifact descends"
        yield f"{version.reference} is {kinds}, and {count} from it"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
