"""What changed beside the weights, in words: settings, what was measured, licence, audit, dependencies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from assay.compare.words import both, brief, listing
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.evaluation import lower_is_better
from assay.spec.figures import figure, plural

_CLAUSES = 3
_NAMED = 3
_SHORT = 40
"""Characters of a name that is still told."""

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
    Area.CODE: "code file",
    Area.FILES: "file",
}
_COUNTED = frozenset({Area.CONFIG, Area.GENERATION, Area.CODE, Area.FILES})


def also(items: Sequence[Item], told: Collection[Area], *, weights: bool) -> str:
    """What else can change behaviour, area by area; empty where nothing does.

    Args:
        items: all differences beside tensors.
        told: areas that were dealt with already.
        weights: whether something was said of weights before.
    """
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
    return f"{'Beside the weights' if weights else 'What differs'}: {text}."


def _clause(area: Area, found: Sequence[Item]) -> str:
    noun = _NOUNS[area]
    if len(found) == 1:
        return _one(found[0], noun)
    places = [_place(item) for item in found]
    named = listing(places, _NAMED)
    if area in _COUNTED:
        short = all(len(place) <= _SHORT for place in places[:_NAMED])
        return f"{plural(len(found), noun)} {_verb(found)}" + (f" ({named})" if short else "")
    where = f"{len(found):,} places" + (f" ({named})" if all(len(place) <= _SHORT for place in places[:_NAMED]) else "")
    return f"the {noun} changed in {where}"


def _verb(found: Sequence[Item]) -> str:
    kinds = {item.kind for item in found}
    return kinds.pop().value if len(kinds) == 1 else "changed"


def _one(item: Item, noun: str) -> str:
    place = _place(item)
    noun = "" if place.startswith(noun) else f"{noun} "
    if item.kind is not ItemKind.CHANGED:
        return f"{noun}{place} {item.kind.value}"
    first = (item.text or "").strip().split("\n")[0]
    plain = first and not first.startswith(("---", "+++", "@@")) and len(first) <= 100
    if item.old is not None and item.new is not None and not isinstance(item.new, (dict, list, tuple)):
        one, other = both(item.old, item.new)
        if one != other:
            return f"{noun}{place} {one} → {other}"
    return f"{noun}{place} changed" + (f": {brief(first)}" if plain else "")


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
    told = next((item for item in found if _named(item.old) and _named(item.new)), None)
    if told is not None:
        yield f"the licence changed: {_named(told.old)} → {_named(told.new)}"
    else:
        yield f"the licence changed ({listing([_place(item) for item in found], 2)})"


def _named(value: object) -> str:
    """Licences by their names; empty where there is only the size of a file."""
    if isinstance(value, str):
        return brief(value)
    return listing([brief(one) for one in value], 3) if isinstance(value, (list, tuple)) else ""


def _audit(items: Sequence[Item]) -> Iterator[str]:
    """Findings gained and lost that are more than notes."""
    for kind, verb in ((ItemKind.ADDED, "finds"), (ItemKind.REMOVED, "no longer finds")):
        values = [item.new if kind is ItemKind.ADDED else item.old for item in items if _is_audit(item, kind)]
        told = [brief(value) for value in dict.fromkeys(str(value) for value in values)]
        grave = [text for text in told if not text.startswith("note:")]
        if grave:
            yield f"the audit {verb}: {listing(grave, 2)}"


def _is_audit(item: Item, kind: ItemKind) -> bool:
    return item.area is Area.AUDIT and item.kind is kind and (item.new or item.old) is not None


def _dependencies(items: Sequence[Item]) -> Iterator[str]:
    found = [item for item in items if item.area is Area.DEPENDENCIES and item.effect is Effect.BEHAVIOUR]
    if len(found) == 1:
        yield _one(found[0], "dependency")
    elif found:
        yield f"{plural(len(found), 'dependency')} {_verb(found)} ({listing([_place(item) for item in found], _NAMED)})"
