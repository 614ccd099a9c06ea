"""``assay lineage``: where a version came from, what came from it, and saying so."""

from __future__ import annotations

from collections.abc import Iterator

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, REFERENCE, registry_of
from assay.cli.text import coloured, plural, short, visible
from assay.errors import InvalidInput
from assay.pages.mermaid import mermaid as flowchart
from assay.service.lineage import bases_given
from assay.service.registry import Registry
from assay.spec.json import Json
from assay.spec.lineage import BASE_RELATIONS, Edge, Graph, Lineage, Node, Relation, Source
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring import lineage as tracing
from assay.wiring.lineage import Search

RELATIONS = click.Choice([relation.value for relation in BASE_RELATIONS])
_MOST = 10
"""Proposals whose evidence is told."""
_DEEPEST = 100
"""Steps that are drawn: each moves the lines by three columns."""
_FINE_TUNE = 0.9
"""Correlation of matrices below which no fine-tune was ever measured."""


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--up", is_flag=True, help="Only what it was made from.")
@click.option("--down", is_flag=True, help="Only what was made from it.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="At most N steps.")
@click.option("--detect", is_flag=True, help="Propose edges from the weights; nothing is recorded.")
@click.option("--among", multiple=True, type=NAME, help="Search this model only; repeatable.")
@click.option("--base", "bases", multiple=True, type=REFERENCE, help="Record what it was made from; repeatable.")
@click.option("--confirm", metavar="REF", type=REFERENCE, help="Record a detected base as confirmed.")
@click.option("--retract", metavar="REF", type=REFERENCE, help="Take back what is said about a base.")
@click.option("--relation", type=RELATIONS, help="How it was made from that.")
@click.option("--reason", metavar="TEXT", help="Why it is taken back; kept for good.")
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart.")
@json_option
@click.pass_context
def lineage(
    context: click.Context,
    reference: str,
    *,
    up: bool,
    down: bool,
    depth: int | None,
    detect: bool,
    among: tuple[str, ...],
    bases: tuple[str, ...],
    confirm: str | None,
    retract: str | None,
    relation: str | None,
    reason: str | None,
    mermaid: bool,
    as_json: bool,
) -> None:
    """Show what a version was made from and what was made from it.

    Edges are given by people, read from the files, or, with --detect, proposed from the weights. With --base, --confirm
    or --retract, first record what is said.
    """
    _check(bases, confirm, retract, relation=relation, reason=reason)
    if among and not detect:
        raise click.UsageError("--among narrows the search of --detect")
    if mermaid and as_json:
        raise click.UsageError("--mermaid and --json exclude each other")
    registry = registry_of(context)
    version = registry.resolve(Reference.parse(reference))
    if bases:
        _say(registry, version, bases, relation)
    elif confirm is not None:
        edge = tracing.confirm(registry, version, registry.resolve(Reference.parse(confirm)), relation=relation)
        talk().print(f"confirmed: {version.reference} {edge.relation.value} {edge.reference}")
    elif retract is not None:
        gone = tracing.take_back(registry, version, retract, relation=relation, reason=reason or "")
        talk().print(visible(f"taken back: {version.reference} {', '.join(gone)} {retract}"))
    both = up == down
    search = Search(up=up or both, down=down or both, depth=depth, detect=detect, among=among, progress=Bar())
    found = tracing.lineage(registry, version, search)
    if as_json:
        body: dict[str, Json] = {"reference": version.reference, "digest": str(version.manifest), **found.to_json()}
        print_json(body)
    elif mermaid:
        say(flowchart(found))
    else:
        say("\n".join(_tree(found, version, up=search.up, down=search.down)))
    _tell(found, detect=detect, as_json=as_json)


def _check(
    bases: tuple[str, ...], confirm: str | None, retract: str | None, *, relation: str | None, reason: str | None
) -> None:
    if bool(bases) + (confirm is not None) + (retract is not None) > 1:
        raise click.UsageError("--base, --confirm and --retract exclude each other")
    if (reason is None) != (retract is None):
        raise click.UsageError("--retract and --reason belong together")
    if relation is not None and not bases and confirm is None and retract is None:
        raise InvalidInput("a relation to what?", code="invalid-base", hint="name the base with --base REF")


def _say(registry: Registry, version: Version, names: tuple[str, ...], relation: str | None) -> None:
    bases = bases_given(names, relation)
    for base, new in zip(bases, tracing.say(registry, version, bases), strict=True):
        state = "recorded" if new else "said already"
        talk().print(visible(f"{state}: {version.reference} {base.relation.value} {base.name}"))


def _tell(found: Lineage, *, detect: bool, as_json: bool) -> None:
    """What is not the answer itself: warnings, and how to confirm what was detected."""
    for message in found.warnings:
        warn(message)
    if found.unread:
        warn(
            f"{plural(found.unread, 'statement')} could not be read: edges may be missing; assay verify --all says more"
        )
    if as_json or not detect:
        return
    if not found.detected:
        talk().print("the weights suggest no base that is not said already")
        return
    talk().print(
        "detected, not confirmed: weights do not tell which came first; the one pushed first counts as the base"
    )
    for edge in found.detected[:_MOST]:
        child = found.nodes[edge.start].name
        talk().print(visible(f"  {child} {edge.relation.value} {found.nodes[edge.target].name}: {_evidence(edge)}"))
    if len(found.detected) > _MOST:
        talk().print(f"  {len(found.detected) - _MOST} more; --json shows all")
    first = found.detected[0]
    talk().print(
        f"to confirm: assay lineage {found.nodes[first.start].name} --confirm {found.nodes[first.target].name}"
    )


def _evidence(edge: Edge) -> str:
    """What a proposal was concluded from, in words."""
    told = edge.evidence
    parts = [f"{told.get('shared')} of {told.get('tensors')} tensors shared"]
    if told.get("equal"):
        parts.append(f"{told['equal']} of them equal")
    if told.get("renamed"):
        parts.append(f"{told['renamed']} renamed")
    if told.get("relative_l2"):
        parts.append(f"{told['relative_l2']} apart")
    correlation = told.get("correlation")
    if isinstance(correlation, float) and correlation < _FINE_TUNE and edge.relation is Relation.FINETUNED_FROM:
        parts.append("far for a fine-tune: perhaps both only began with the same random weights")
    if isinstance(casts := told.get("casts"), dict) and casts:
        parts.append(", ".join(casts))
    if told.get("rank"):
        parts.append(f"changes of rank {told['rank']}: a merged adapter")
    return ", ".join(parts)


def _tree(found: Lineage, version: Version, *, up: bool, down: bool) -> Iterator[str]:
    """The tree as lines: the version, what it was made from, what was made from it."""
    root = found.nodes[found.root]
    yield f"{version.reference} {version.manifest.short}{_conditions(root)}"
    graph = found.graph
    sides = [("made from", True)] if up and graph.up(found.root) else []
    sides += [("made into", False)] if down and graph.down(found.root) else []
    if not sides:
        nothing = ["nothing says what it was made from"] * up + ["nothing here was made from it"] * down
        yield f"└─ {', '.join(nothing)}"
    for at, (title, above) in enumerate(sides):
        last = at == len(sides) - 1
        yield f"{'└─' if last else '├─'} {title}"
        yield from _branches(found, graph, up=above, prefix="   " if last else "│  ")


def _branches(found: Lineage, graph: Graph, *, up: bool, prefix: str) -> Iterator[str]:
    """One direction below the root, depth first, each node unfolded once; the stack is ours: lineages may be long."""
    unfolded = {found.root}
    waiting = [(edge, prefix, last) for edge, last in _reversed(graph, found.root, up=up)]
    while waiting:
        edge, before, last = waiting.pop()
        key = edge.target if up else edge.start
        if len(before) > _DEEPEST * len(prefix):
            start = found.nodes[edge.start if up else edge.target].name
            yield f"{before}└─ … goes on: assay lineage {_line_of(start)} {'--up' if up else '--down'}"
            while waiting and waiting[-1][1] == before:
                waiting.pop()
            continue
        deeper = graph.up(key) if up else graph.down(key)
        note = ""
        if key in unfolded and key == found.root:
            note = " (the version itself: a cycle)"
        elif key in unfolded and deeper:
            note = " (shown above)"
        yield f"{before}{'└─' if last else '├─'} {_line(found, edge, up=up)}{note}"
        if key not in unfolded:
            unfolded.add(key)
            below = before + ("   " if last else "│  ")
            waiting += [(other, below, end) for other, end in _reversed(graph, key, up=up)]


def _reversed(graph: Graph, key: str, *, up: bool) -> list[tuple[Edge, bool]]:
    """Edges of a node, last first, and whether each is the last."""
    edges = graph.up(key) if up else graph.down(key)
    return [(edge, at == len(edges) - 1) for at, edge in enumerate(edges)][::-1]


def _line(found: Lineage, edge: Edge, *, up: bool) -> str:
    node = found.nodes[edge.target if up else edge.start]
    mark = "? " if edge.source is Source.DETECTED else ""
    name = _line_of(short(node.name, 100))
    also = f" = {', '.join(node.references[1:4])}" if len(node.references) > 1 else ""
    away = "" if node.references or node.run else ", not here"
    told = f"{edge.source.value}{', not confirmed' if mark else ''}{away}"
    if up:
        return f"{mark}{edge.relation.value} {name}{also} ({told}){_conditions(node)}"
    return f"{mark}{name}{also} {edge.relation.value} it ({told}){_conditions(node)}"


def _conditions(node: Node) -> str:
    told = [
        f"{coloured(condition.kind, 'red')}{': ' if condition.reason else ''}{_line_of(condition.reason)}"
        for condition in node.conditions
    ]
    return f"  {'; '.join(told)}" if told else ""


def _line_of(text: str) -> str:
    """Foreign text in one line."""
    return visible(" ".join(text.split()))
