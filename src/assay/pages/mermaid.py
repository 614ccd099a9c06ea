"""A lineage as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html), for pages that draw such text.

Names come from foreign files. Nodes are called by numbers, and every text stands in quotes with all that is not plain
written as a character entity, so that no name can end its label, start markup or a directive.
"""

from __future__ import annotations

from assay.spec.lineage import Lineage, Node, Source

MAX_LABEL = 120
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .:/_,@+=-")


def mermaid(lineage: Lineage) -> str:
    """The flowchart: bases above, what was made from them below; what was only detected is dashed."""
    names = {key: f"n{number}" for number, key in enumerate(lineage.nodes)}
    lines = ["flowchart TD"]
    for key, node in lineage.nodes.items():
        left, right = ("([", "])") if node.run else ("[", "]") if node.references else ("[/", "/]")
        lines.append(f'    {names[key]}{left}"{_label(node)}"{right}')
    for edge in lineage.edges:
        arrow = "-.->" if edge.source is Source.DETECTED else "-->"
        label = f"{edge.relation.value}{', detected' if edge.source is Source.DETECTED else ''}"
        lines.append(f'    {names[edge.target]} {arrow}|"{label}"| {names[edge.start]}')
    bad = [names[key] for key, node in lineage.nodes.items() if node.conditions]
    lines.append("    classDef asked stroke-width:3px")
    lines.append(f"    class {names[lineage.root]} asked")
    if bad:
        lines.append("    classDef unfit stroke:#c00000,color:#c00000")
        lines.append(f"    class {','.join(bad)} unfit")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text for the inside of a quoted label.

    >>> escaped('a"] --> b')
    'a#34;#93; --#62; b'
    """
    short = text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"
    return "".join(letter if letter in _PLAIN else f"#{ord(letter)};" for letter in short)


def _label(node: Node) -> str:
    kinds = ", ".join(dict.fromkeys(condition.kind for condition in node.conditions))
    return escaped(f"{node.name} - {kinds}" if kinds else node.name)
