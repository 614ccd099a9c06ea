"""Where a model came from: edges from an artifact to what it was made from or by, and the graph they make.

The JSON form (``Lineage.to_json``) is what ``assay lineage --json`` prints: ``docs/reference/json.md``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
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


BASE_RELATIONS = tuple(relation for relation in Relation if relation is not Relation.TRAINED_BY)
"""Relations to another model; the other end of ``trained-by`` is a run."""


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

    @property
    def start(self) -> str:
        """Key of the subject's node."""
        return str(self.subject)

    @property
    def target(self) -> str:
        """Key of the other end's node: its digest, else its name, with the kind of thing in front."""
        if self.manifest is not None:
            return str(self.manifest)
        return f"{'run' if self.relation is Relation.TRAINED_BY else 'name'} {self.name}"

    def to_json(self) -> dict[str, Json]:
        """The edge as a JSON object."""
        return {
            "subject": self.start,
            "target": self.target,
            "relation": self.relation.value,
            "name": self.name,
            "reference": self.reference,
            "source": self.source.value,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True, slots=True)
class Condition:
    """Why something must not be relied on.

    Args:
        kind: ``yanked``, ``purged``, ``removed``, or the verdict of its newest audit (``unsafe``, ``unverified``).
        reason: as it was given, or the audit's summary.
        reference: the version it is about; None where it is about the artifact, whatever it is called.
    """

    kind: str
    reason: str
    reference: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The condition as a JSON object."""
        return {"kind": self.kind, "reason": self.reason, "reference": self.reference}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An artifact, something named that is not here, or a run.

    Args:
        key: as in ``Edge.start`` and ``Edge.target``.
        name: what to call it.
        references: the versions that are this artifact; empty for what is not here.
        run: whether it is a training run.
        conditions: why it must not be relied on.
    """

    key: str
    name: str
    references: tuple[str, ...] = ()
    run: bool = False
    conditions: tuple[Condition, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The node as a JSON object."""
        return {
            "key": self.key,
            "name": self.name,
            "references": list(self.references),
            "run": self.run,
            "conditions": [condition.to_json() for condition in self.conditions],
        }


class Graph:
    """Edges by their ends; may hold cycles, because anybody may say anything.

    Args:
        edges: in the order in which they are listed.
    """

    __slots__ = ("_down", "_up")

    def __init__(self, edges: Iterable[Edge]) -> None:
        self._up: dict[str, list[Edge]] = defaultdict(list)
        self._down: dict[str, list[Edge]] = defaultdict(list)
        for edge in edges:
            self._up[edge.start].append(edge)
            self._down[edge.target].append(edge)

    def up(self, key: str) -> Sequence[Edge]:
        """Edges from a node to what it was made from or by."""
        return self._up.get(key, ())

    def down(self, key: str) -> Sequence[Edge]:
        """Edges to a node from what was made from it."""
        return self._down.get(key, ())

    def ancestors(self, key: str, depth: int | None = None) -> dict[str, int]:
        """Everything it was made from, nearest first, with the number of steps; itself only where a cycle leads back.

        Args:
            depth: steps to go; None goes to the end.
        """
        return _walk(key, lambda at: (edge.target for edge in self.up(at)), depth)

    def descendants(self, key: str, depth: int | None = None) -> dict[str, int]:
        """Everything made from it, as ``ancestors``."""
        return _walk(key, lambda at: (edge.start for edge in self.down(at)), depth)


def _walk(start: str, neighbours: Callable[[str], Iterable[str]], depth: int | None) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting = deque([(start, 0)])
    while waiting:
        at, steps = waiting.popleft()
        if depth is not None and steps >= depth:
            continue
        for key in neighbours(at):
            if key not in found:
                found[key] = steps + 1
                waiting.append((key, steps + 1))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What one artifact was made from, and what was made from it.

    Args:
        root: key of the artifact that was asked about.
        nodes: key to node: the root, then ancestors nearest first, then descendants nearest first.
        edges: between them. Those of source ``detected`` are proposals, best first.
        warnings: sentences about ancestors that must not be relied on.
        unread: statements that could not be read: edges may be missing.
    """

    root: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    warnings: tuple[str, ...] = ()
    unread: int = 0

    @property
    def graph(self) -> Graph:
        """The edges by their ends."""
        return Graph(self.edges)

    @property
    def ancestors(self) -> tuple[Node, ...]:
        """Everything it was made from or by, nearest first."""
        return tuple(self.nodes[key] for key in self.graph.ancestors(self.root))

    @property
    def descendants(self) -> tuple[Node, ...]:
        """Everything made from it, nearest first."""
        return tuple(self.nodes[key] for key in self.graph.descendants(self.root))

    @property
    def detected(self) -> tuple[Edge, ...]:
        """Proposed edges, best first."""
        return tuple(edge for edge in self.edges if edge.source is Source.DETECTED)

    def to_json(self) -> dict[str, Json]:
        """The lineage as a JSON object."""
        return {
            "root": self.root,
            "nodes": [node.to_json() for node in self.nodes.values()],
            "edges": [edge.to_json() for edge in self.edges],
            "warnings": list(self.warnings),
            "unread": self.unread,
        }
