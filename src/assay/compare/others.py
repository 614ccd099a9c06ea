"""What changed beside the weights, in words: settings, what was measured, licence, audit, dependencies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from assay.compare.words import brief, listing
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.evaluation import lower_is_better
from assay.spec.figures import figure, plural

_CLAUSES = 3
_NAMED = 3

_HIGHER = re.compile(
    r"auc|acc(uracy)?|f1|f_?beta|precision|recall|r2|bleu|rouge|m?ap|ndcg|mrr|iou|dice|score|specificity|sensitivity"
    r"|pearson|spearman|kappa|mcc|win_?rate|exact_match"
)
"""Words that name what is better when there is more of it; of other names nothing is said."""

_NOUNS = {
    Area.ARCHITECTURE: "architecture",
    Area.SIGNATURE: "signature",
    Area.CONFIG: "setting",
    Area.GENERATION: "generation setting",
    Area.TOKENIZER: "tokenizer",
    Area.PREPROCESSING: "preprocessing",
    Area.PIPELINE: "pipeline",
    Area.GRAPH: "graph",
    Area.CODE: "code",
    Area.FILES: "file",
}
_COUNTED = frozenset({Area.CONFIG, Area.GENERATION, Area.FILES})


def also(items: Sequence[Item], told: Collection[Area]) -> str:
    """What else can change behaviour, area by area; empty where nothing does."""
    clauses = []
    for area in _NOUNS:
        found = [item for item in items if item.area is area and item.effect is Effect.BEHAVIOUR]
        if found and area not in told:
            clauses.append(_clause(area, found))
    if not clauses:
        return ""
    shown = clauses[:_CLAUSES]
    rest = len(clauses) - len(shown)
    text = "; ".join([*shown, *([f"and more in {plural(rest, 'other area')}"] if rest else [])])
    return f"Beside the weights: {text}."


def _clause(area: Area, found: Sequence[Item]) -> str:
    noun = _NOUNS[area]
    if len(found) == 1:
        return _one(found[0], noun)
    named = listing([_place(item) for item in found], _NAMED)
    if area in _COUNTED:
        return f"{plural(len(found), noun)} changed ({named})"
    return f"the {noun} changed in {len(found):,} places ({named})"


def _one(item: Item, noun: str) -> str:
    if item.kind is not ItemKind.CHANGED:
        return f"{noun} {_place(item)} {item.kind.value}"
    if item.old is not None and item.new is not None and not isinstance(item.new, (dict, list, tuple)):
        return f"{noun} {_place(item)} {brief(item.old)} → {brief(item.new)}"
    first = (item.text or "").strip().split("\n")[0]
    plain = first and not first.startswith(("---", "+++", "@@")) and len(first) <= 100
    return f"{noun} {_place(item)} changed" + (f": {brief(first)}" if plain else "")


def _place(item: Item) -> str:
    """Where it is, without the file when a place in it is named."""
    return brief(item.path.rpartition(": ")[2] or item.path)


def measured(items: Sequence[Item]) -> str:
    """Metrics that both have, with their way; empty where none changed."""
    texts = [
        f"{_place(item)} {figure(item.old)} → {figure(item.new)}{_better(_place(item), item.old, item.new)}"
        for item in items
        if item.area is Area.METRICS and isinstance(item.old, (int, float)) and isinstance(item.new, (int, float))
    ]
    return f"Measured: {listing(texts, 4)}." if texts else ""


def _better(name: str, old: float, new: float) -> str:
    words = re.split(r"[^a-z0-9]+", name.lower())
    joined = "_".join(words)
    low = lower_is_better(name)
    high = any(_HIGHER.fullmatch(word) for word in (*words, joined))
    if not (low or high) or old == new:
        return ""
    return " (better)" if (new < old) is low else " (worse)"


def remarks(items: Sequence[Item]) -> str:
    """Licence, audit and dependencies, in one sentence; empty where they are as they were."""
    clauses = [*_licence(items), *_audit(items), *_dependencies(items)]
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _licence(items: Sequence[Item]) -> Iterator[str]:
    found = [item for item in items if item.area is Area.LICENCE]
    if not found:
        return
    told = next((item for item in found if item.old is not None and item.new is not None), None)
    if told is not None:
        yield f"the licence changed: {brief(told.old)} → {brief(told.new)}"
    else:
        yield f"the licence changed ({listing([_place(item) for item in found], 2)})"


def _audit(items: Sequence[Item]) -> Iterator[str]:
    for kind, verb in ((ItemKind.ADDED, "finds"), (ItemKind.REMOVED, "no longer finds")):
        found = [item for item in items if item.area is Area.AUDIT and item.kind is kind]
        if found:
            yield f"the audit {verb} {listing([brief(item.text or item.path) for item in found], 2)}"


def _dependencies(items: Sequence[Item]) -> Iterator[str]:
    found = [item for item in items if item.area is Area.DEPENDENCIES and item.effect is Effect.BEHAVIOUR]
    if len(found) == 1:
        yield _one(found[0], "dependency")
    elif found:
        yield f"{plural(len(found), 'dependency')} changed ({listing([_place(item) for item in found], _NAMED)})"
