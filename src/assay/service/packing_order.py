"""In which order artifacts are packed: families together, each base before what was made from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.spec.digest import Digest
from assay.spec.lineage import BASE_RELATIONS, Edge
from assay.spec.records import Version

_KIN = 4
"""Relatives in which bases of an artifact's tensors are looked for first."""


@dataclass(frozen=True, slots=True)
class Family:
    """An artifact and its relatives.

    Args:
        version: the oldest version that is the artifact.
        near: versions that are relatives of it, likeliest first: what it was made from, then earlier ones of its name.
    """

    version: Version
    near: tuple[Version, ...]


def families(live: Sequence[Version], edges: Iterable[Edge], chosen: Collection[Digest]) -> Iterator[Family]:
    """Every chosen artifact once, in the order in which they are packed.

    Args:
        live: versions that are not gone, oldest first.
        edges: what was made from what; other ends that are no version here do not count.
        chosen: artifacts that are wanted.
    """
    oldest: dict[Digest, Version] = {}
    for version in live:
        oldest.setdefault(version.manifest, version)
    bases = _bases(edges, oldest)
    earlier = _earlier(live)
    relatives = {artifact: tuple(dict.fromkeys((*bases.get(artifact, ()), *earlier[artifact]))) for artifact in oldest}
    for artifact in _in_order(oldest, relatives):
        if artifact in chosen:
            near = tuple(oldest[one] for one in relatives[artifact][:_KIN])
            yield Family(oldest[artifact], near)


def _bases(edges: Iterable[Edge], known: Collection[Digest]) -> dict[Digest, list[Digest]]:
    found: dict[Digest, list[Digest]] = defaultdict(list)
    for edge in edges:
        base = edge.manifest
        if edge.relation in BASE_RELATIONS and base in known and edge.subject in known and base != edge.subject:
            assert base is not None
            found[edge.subject].append(base)
    return found


def _earlier(live: Sequence[Version]) -> dict[Digest, list[Digest]]:
    """The last few artifacts that were versions of the same name before, the newest of them first."""
    lines: dict[str, list[Digest]] = defaultdict(list)
    found: dict[Digest, list[Digest]] = defaultdict(list)
    for version in live:
        line = lines[version.name]
        if version.manifest not in line[-1:]:
            found[version.manifest] += [one for one in line[: -_KIN - 1 : -1] if one != version.manifest]
            line.append(version.manifest)
    return found


def _in_order(oldest: Mapping[Digest, Version], relatives: Mapping[Digest, Sequence[Digest]]) -> Iterator[Digest]:
    """Relatives before each artifact, families one after the other, the oldest first; circles are cut somewhere."""
    younger: dict[Digest, list[Digest]] = defaultdict(list)
    for artifact in oldest:
        for one in relatives[artifact]:
            younger[one].append(artifact)
    done: set[Digest] = set()
    for root in oldest:
        family = [root]
        for artifact in family:  # grows as it is gone through
            if artifact in done:
                continue
            yield from _with_relatives(artifact, relatives, done)
            family.extend(one for one in younger[artifact] if one not in done)


def _with_relatives(
    artifact: Digest, relatives: Mapping[Digest, Sequence[Digest]], done: set[Digest]
) -> Iterator[Digest]:
    """An artifact after those that it leans on."""
    begun: set[Digest] = set()
    stack = [artifact]
    while stack:
        one = stack[-1]
        missing = [] if one in begun else [it for it in relatives[one] if it not in done and it not in begun]
        begun.add(one)
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if one not in done:
            done.add(one)
            yield one
