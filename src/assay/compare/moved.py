"""What became of the weights, in words: how far they moved, what stood still, what is new, what is broken."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from assay.compare.kinship import MOSTLY, is_low_rank
from assay.compare.shared import is_second_name
from assay.compare.tensors import Tensors
from assay.compare.weights import NEAR, Weights, grew, weigh
from assay.compare.words import brief, listing
from assay.spec.changes import GroupChange, Kinship, Match, State, TensorChange
from assay.spec.figures import percent, plural

_SERIES = re.compile(r"^(.*?)[./]?(\d+)$")
_PARTS, _SHORT = 5, 40
"""How many parts, of how many characters, are named as the place of tensors."""
_FAINT = 0.1
"""Correlation from which weights have something of the old ones."""
_SPREAD = 2.0
"""How many times farther the farthest group moved than the nearest, from which on both are named."""


def weights_sentence(kin: Kinship, tensors: Tensors) -> str:
    """One sentence about the weights; empty where there is nothing to say."""
    weights = weigh(tensors.changes)
    if not weights.pairs:
        return ""
    if kin in {Kinship.SAME_MODEL, Kinship.SAME_WEIGHTS}:
        return _all_equal(weights)
    if kin is Kinship.RECAST:
        return _recast(weights)
    strange = kin is Kinship.OTHER_ARCHITECTURE and weights.shared < MOSTLY
    renamed = [] if strange else _renamed(weights)
    clauses = [_together(kin, weights, tensors.groups), *_unmatched(weights), *renamed]
    return _sentence(clause for clause in clauses if clause)


def broken_sentence(changes: Sequence[TensorChange]) -> str:
    """That weights became NaN or infinite; empty where none did."""
    broken = [change for change in changes if change.nonfinite_appeared and not change.beside_the_model]
    if not broken:
        return ""
    count = sum(change.nonfinite_appeared for change in broken)
    where = listing([brief(change.name) for change in broken], 2)
    noun = "weight is" if count == 1 else "weights are"
    return f"{count:,} {noun} NaN or infinite now, in {where}."


def _sentence(clauses: Iterable[str]) -> str:
    text = "; ".join(clauses)
    return text[:1].upper() + text[1:] + "." if text else ""


def _all_equal(weights: Weights) -> str:
    if len(weights.equal) < len(weights.pairs):
        equal, whole = len(_equal(weights)), len(weights.together)
        verb = "is" if equal == 1 else "are"
        return _sentence([f"{equal:,} of {whole:,} tensors with a counterpart {verb} equal", *_renamed(weights)])
    other = [one for one in weights.constants if one.state is not State.EQUAL]
    count = len(weights.pairs) if other else len(weights.pairs) + len(weights.constants)
    what = "tensor of weights" if other else "tensor"
    clauses = [
        f"its one {what} is equal" if count == 1 else f"all {count:,} {what.replace('tensor', 'tensors')} are equal"
    ]
    clauses[0] += ", element by element"
    if other:
        clauses.append(f"{listing([brief(one.name) for one in other], 3)} changed")
    return _sentence([*clauses, *_renamed(weights)])


def _recast(weights: Weights) -> str:
    recast = [change for change in weights.pairs if change.state is State.RECAST]
    casts = Counter((one.old.dtype, one.new.dtype) for one in recast if one.old and one.new)
    (before, after), _ = casts.most_common(1)[0]
    errors = [one.numbers.relative_l2 for one in recast if one.numbers]
    whole = len(weights.pairs) + len(weights.constants)
    who = "its" if whole == 1 else "all" if len(recast) == whole else f"{len(recast):,} of"
    clauses = [f"{who} {plural(whole, 'tensor')} went from {brief(before)} to {brief(after)}"]
    if any(one.numbers is None for one in recast):
        return _sentence([f"{clauses[0]}; whether they stand for the same numbers was not compared"])
    if any(errors):
        clauses[0] += f", which moved them by at most {percent(max(errors))}"
        if all(one.numbers is not None and one.numbers.cast_error is not None for one in recast):
            clauses[0] += ": what the rounding alone explains"
    else:
        clauses[0] += " without any loss"
    return _sentence([*clauses, *_unmatched(weights)])


def _together(kin: Kinship, weights: Weights, groups: Sequence[GroupChange]) -> str:
    """What the shared tensors did."""
    moved, shared, equal = len(_stirred(weights)), len(weights.together), len(_equal(weights))
    if kin is Kinship.OTHER_ARCHITECTURE and weights.shared < MOSTLY:
        verb = "has" if shared == 1 else "have"
        return f"only {plural(shared, 'tensor')} ({percent(weights.shared)} of the weights) {verb} a counterpart"
    if not moved:
        if weights.unknown:
            return f"the elements of {_of(len(weights.unknown), shared)} were not compared"
        return f"{_of(equal, shared)} {'is' if equal == 1 else 'are'} equal" if equal else ""
    if weights.spoiled:
        return f"the other {equal:,} of {shared:,} tensors are equal" if equal else ""
    unlike = weights.correlation is not None and weights.correlation < NEAR and bool(weights.equal)
    if (unlike or kin in {Kinship.RETRAINED, Kinship.OTHER_ARCHITECTURE}) and (weights.correlation or 0.0) < NEAR:
        return _unlike(weights)
    low_rank = _low_rank(weights) if is_low_rank(weights) else ""
    text = low_rank or f"{_of(moved, shared)} moved" + (
        f", typically by {percent(weights.typical)}" if weights.typical else ""
    )
    extremes = "" if low_rank else _extremes(groups, weights.typical or 0.0)
    still = _standing(groups) if weights.equal and kin in {Kinship.FINE_TUNE, Kinship.ADAPTER} else ""
    if equal and not still:
        still = f"{plural(equal, 'tensor')} did not move"
    if weights.unknown:
        still = "; ".join(filter(None, (still, f"{plural(len(weights.unknown), 'tensor')} could not be compared")))
    return "; ".join(part for part in (text + (f", {extremes}" if extremes else ""), still) if part)


def _stirred(weights: Weights) -> list[TensorChange]:
    """The pairs, weights or not, whose elements were compared and differ."""
    return [one for one in weights.together if one.state is not State.EQUAL and one.numbers is not None]


def _equal(weights: Weights) -> list[TensorChange]:
    return [one for one in weights.together if one.state is State.EQUAL]


def _of(count: int, whole: int) -> str:
    if whole == 1:
        return "the one shared tensor"
    if count == whole == 2:
        return "both shared tensors"
    return f"all {whole:,} shared tensors" if count == whole else f"{count:,} of {whole:,} shared tensors"


def _unlike(weights: Weights) -> str:
    """That the weights do not continue the old ones."""
    moved, equal = len(_stirred(weights)), len(_equal(weights))
    text = f"{_of(moved, len(weights.together))} {'holds' if moved == 1 else 'hold'} other weights"
    text += _likeness(weights.correlation)
    if equal:
        text += f"; {plural(equal, 'tensor')} did not change"
    return text


def _likeness(correlation: float | None) -> str:
    """``, which do not resemble the old ones (correlation 0.01)``."""
    if correlation is None:
        return ""
    how = (
        "run against"
        if correlation <= -NEAR
        else "do not resemble"
        if correlation < _FAINT
        else "only faintly resemble"
    )
    return f", which {how} the old ones (correlation {correlation:.2f})".replace("-0.00", "0.00")


def _extremes(groups: Sequence[GroupChange], typical: float) -> str:
    """Which groups moved least and most, when that says something."""
    told = [group for group in groups if group.relative_l2 and math.isfinite(group.relative_l2)]
    if len(told) < 3:
        return ""
    common = _common([f"{group.name}." for group in groups])
    ordered = sorted(told, key=lambda group: group.relative_l2 or 0.0)
    least, most = ordered[0], ordered[-1]
    assert least.relative_l2 is not None
    assert most.relative_l2 is not None
    if most.relative_l2 < _SPREAD * least.relative_l2 or not least.relative_l2 <= typical <= most.relative_l2:
        return ""
    return (
        f"{_below(least.name, common)} least ({percent(least.relative_l2)}) "
        f"and {_below(most.name, common)} most ({percent(most.relative_l2)})"
    )


def _below(name: str, common: int) -> str:
    """A name without the parts that all names share."""
    parts = re.split(r"[./]", name)
    return brief(".".join(parts[min(common, len(parts) - 1) :]))


def _standing(groups: Sequence[GroupChange]) -> str:
    """The parts that did not move: ``embeddings and the first 2 of 6 layers frozen``."""
    if not any(group.frozen for group in groups) or all(group.frozen for group in groups):
        return ""
    series: dict[str, dict[int, bool]] = {}
    single: list[str] = []
    for group in groups:
        found = _SERIES.match(group.name)
        if found:
            series.setdefault(found[1], {})[int(found[2])] = group.frozen
        elif group.frozen:
            single.append(brief(_last(group.name)))
    texts = [*dict.fromkeys(single)]
    for prefix, frozen in series.items():
        texts += _layers(prefix, frozen)
    return f"{listing(texts, 4)} frozen" if texts else ""


def _layers(prefix: str, frozen: Mapping[int, bool]) -> list[str]:
    still = [number for number in sorted(frozen) if frozen[number]]
    every = sorted(frozen)
    if not still:
        return []
    noun = _noun(_last(prefix))
    if len(every) == 1:
        return [brief(f"{_last(prefix)}.{every[0]}".strip("."))]
    if still == every:
        return [f"all {len(every)} {noun}"]
    if still == every[: len(still)]:
        return [
            f"the first {len(still)} of {len(every)} {noun}" if len(still) > 1 else f"the first of {len(every)} {noun}"
        ]
    if still == every[-len(still) :]:
        return [
            f"the last {len(still)} of {len(every)} {noun}" if len(still) > 1 else f"the last of {len(every)} {noun}"
        ]
    return [f"{len(still)} of {len(every)} {noun}"]


def _noun(word: str) -> str:
    """What the numbered parts of a series are called."""
    known = {
        "layer": "layers",
        "layers": "layers",
        "h": "layers",
        "blk": "blocks",
        "block": "blocks",
        "blocks": "blocks",
    }
    if word.endswith("s") and word.lower() not in known:
        return brief(word.replace("_", " "))
    return known.get(word.lower(), f"parts of {brief(word)}" if word else "parts")


def _last(name: str) -> str:
    parts = [part for part in re.split(r"[./]", name) if part]
    return parts[-1] if parts else name


def _low_rank(weights: Weights) -> str:
    """``changes of rank 8 in the q_proj and v_proj matrices``."""
    low = [one for one in weights.moved if one.numbers is not None and one.numbers.rank is not None]
    ranks = sorted({one.numbers.rank for one in low if one.numbers is not None and one.numbers.rank is not None})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    names = Counter(_module(one.name) for one in low)
    where = listing([brief(name) for name, _ in names.most_common()], 4)
    of = "matrix" if len(low) == 1 else "matrices"
    return f"only changes of {rank}, in {len(low):,} {of} ({where}), as a merged adapter makes them"


def _module(name: str) -> str:
    parts = [part for part in re.split(r"[./]", name) if part and part not in {"weight", "kernel", "kernel:0"}]
    return parts[-1] if parts else name


def _unmatched(weights: Weights) -> list[str]:
    """What was added, taken away or has another shape."""
    clauses = []
    if grown := [one for one in weights.pairs if one.state is State.RESHAPED and grew(one)]:
        one = grown[0]
        assert one.old is not None
        assert one.new is not None
        word = "grew" if one.new.shape[0] > one.old.shape[0] else "shrank"
        more = f" (and {plural(len(grown) - 1, 'tensor')} like it)" if len(grown) > 1 else ""
        clauses.append(f"{brief(one.name)} {word} from {one.old.shape[0]:,} to {one.new.shape[0]:,} rows{more}")
    reshaped = [one for one in weights.pairs if one.state is State.RESHAPED and not grew(one)]
    if reshaped:
        verb = "has" if len(reshaped) == 1 else "have"
        clauses.append(f"{plural(len(reshaped), 'tensor')} {verb} another shape")
    for changes, verb in ((weights.added, "added"), (weights.removed, "removed")):
        if changes:
            clauses.append(f"{plural(len(changes), 'tensor')} {verb}{_where(changes, weights)}")
    return clauses


def _common(names: Sequence[str]) -> int:
    """How many leading parts all names share."""
    split = [re.split(r"[./]", name)[:-1] for name in names]
    shared = 0
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return shared


def _where(changes: Sequence[TensorChange], weights: Weights) -> str:
    """The parts that hold them, where that is short to say."""
    split = [re.split(r"[./]", change.name) for change in changes]
    at = _level(split, weights)
    prefix = ".".join(split[0][:at])
    leaves = any(len(parts) <= at + 1 for parts in split)
    named = [(prefix if at else parts[0]) if leaves else parts[at] for parts in split]
    counted = [part for part, _ in Counter(named).most_common()]
    if len(counted) > _PARTS or any(len(part) > _SHORT for part in (*counted, prefix)):
        return ""
    if all(part.isdigit() for part in counted) and prefix:
        return f" ({brief(prefix)} {listing(sorted(counted, key=int), 3)})"
    return f" ({listing([brief(part) for part in counted], 3)})"


def _level(split: Sequence[Sequence[str]], weights: Weights) -> int:
    """How many leading parts of names to leave out: those that all share, and that tensors which stayed share too."""
    gone = bool(weights.removed) and split[0] == re.split(r"[./]", weights.removed[0].name)
    kept = (change.old if gone else change.new for change in weights.pairs)
    stayed = [re.split(r"[./]", spec.name) for spec in kept if spec is not None]
    at = 0
    while all(len(parts) > at + 1 and parts[at] == split[0][at] for parts in split):
        prefix = list(split[0][: at + 1])
        if not any(parts[: at + 1] == prefix for parts in stayed):
            break
        at += 1
    return at


def _renamed(weights: Weights) -> list[str]:
    """That tensors have other names, and by what rule when one prefix explains it."""
    told = _second_names(weights)
    pairs = [one for one in weights.pairs if not is_second_name(one)]
    renamed = [one for one in pairs if one.old and one.new and one.old.name != one.new.name]
    if not renamed:
        return told
    ruled = [one for one in renamed if one.match is Match.RENAMED]
    prefixes = {_prefix(one) for one in ruled}
    count = "all" if len(renamed) == len(pairs) and len(renamed) > 1 else f"{len(renamed):,} of them"
    if len(ruled) == len(renamed) and len(prefixes) == 1 and (rule := prefixes.pop()):
        return [f"{count} under other names ({rule})", *told]
    return [f"{count} under other names", *told]


def _second_names(weights: Weights) -> list[str]:
    """That tied weights have one more name, or one less."""
    second = sum(map(is_second_name, weights.pairs))
    if not second:
        return []
    return [
        "one of them is a second name of tied weights"
        if second == 1
        else f"{second:,} of them are second names of tied weights"
    ]


def _prefix(change: TensorChange) -> str:
    assert change.old is not None
    assert change.new is not None
    old, new = change.old.name, change.new.name
    if old.endswith(new):
        return f'prefix "{brief(old[: len(old) - len(new)])}" dropped'
    if new.endswith(old):
        return f'prefix "{brief(new[: len(new) - len(old)])}" added'
    return ""
