"""What it means that tensors have other names: layers in another order, names that a loader looks for in vain."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from assay.compare.shared import is_second_name
from assay.compare.sides import Compared
from assay.compare.words import brief, listing
from assay.spec.changes import Area, Effect, Item, ItemKind, TensorChange

ORDER = "order of layers"
NAMES = "names of tensors"

_LOOKED_UP = frozenset({"transformers", "sentence-transformers", "diffusers"})
"""Formats whose library looks for tensors by name, and makes up anew what it does not find."""
_OF_STEPS = frozenset({"pickle", "joblib", "skops"})
"""Formats whose numbered parts have names of their own, by which they are compared."""
_BODIES = frozenset({"model", "transformer"})
"""What transformers calls the body inside a model with a head, beside the model's own type."""
_WRAPPERS = frozenset({"module", "_orig_mod", "_forward_module"})
"""What DataParallel, torch.compile and DeepSpeed put before every name."""
_HEAD = re.compile(r"(?:lm_head|cls|classifier|pre_classifier|score|qa_outputs|\w+_head|\w+_projection)\.")
"""What stands beside the body and keeps its name."""
_LAYER = re.compile(r"(.*?[./])([0-9]{1,6})([./].*)", re.DOTALL)
_SHOWN = 12


def renamed_items(old: Compared, new: Compared, changes: Sequence[TensorChange]) -> tuple[Item, ...]:
    """What changed by the names of tensors alone, though their elements may be equal."""
    steps = {side.inspection.leading.format for side in (old, new) if side.inspection.leading} & _OF_STEPS
    return (*(() if steps else _orders(changes)), *_lost(old, new, changes))


def _orders(changes: Sequence[TensorChange]) -> Iterator[Item]:
    """Stacks whose layers have other numbers now."""
    stacks: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for change in changes:
        numbers = _numbers(change)
        if numbers is not None:
            stack, before, after = numbers
            stacks[stack][after] = before
    for stack, moves in stacks.items():
        came = [moves[number] for number in sorted(moves)]
        if came == sorted(moves):
            continue
        turned = came != sorted(came)
        shown = ", ".join(map(str, came[:_SHOWN])) + (", …" if len(came) > _SHOWN else "")
        now = ", ".join(map(str, sorted(moves)[:_SHOWN])) + (", …" if len(came) > _SHOWN else "")
        text = f"layers {shown} of the old one are its layers {now}" + (": another order" if turned else "")
        yield Item(
            area=Area.ARCHITECTURE,
            path=f"{ORDER}: {brief(stack.rstrip('./'))}",
            kind=ItemKind.CHANGED,
            effect=Effect.BEHAVIOUR if turned else Effect.NOTE,
            text=text,
            why="layers run one after the other" if turned else "only their numbers changed",
        )


def _numbers(change: TensorChange) -> tuple[str, int, int] | None:
    """The stack of a pair and the number of its layer before and now."""
    if change.old is None or change.new is None or is_second_name(change):
        return None
    before, after = _LAYER.fullmatch(change.old.name), _LAYER.fullmatch(change.new.name)
    if before is None or after is None or (before[1], before[3]) != (after[1], after[3]):
        return None
    return after[1], int(before[2]), int(after[2])


def _lost(old: Compared, new: Compared, changes: Sequence[TensorChange]) -> Iterator[Item]:
    """Names by which the format's library does not find the tensors any more."""
    formats = {side.inspection.leading.format if side.inspection.leading else "" for side in (old, new)}
    if len(formats) != 1 or not formats <= _LOOKED_UP:
        return
    renamed = [change for change in changes if _called_otherwise(change) and _numbers(change) is None]
    if not renamed or _a_body(new, renamed):
        return
    first = renamed[0]
    assert first.old is not None
    yield Item(
        area=Area.ARCHITECTURE,
        path=NAMES,
        kind=ItemKind.CHANGED,
        effect=Effect.BEHAVIOUR,
        text=f"{len(renamed):,} have other names: {listing([brief(first.old.name)], 1)} → {brief(first.name)}",
        why="what loads it looks for tensors by name, and makes up anew what it does not find",
    )


def _called_otherwise(change: TensorChange) -> bool:
    pair = change.old is not None and change.new is not None and change.old.name != change.new.name
    return pair and not is_second_name(change)


def _a_body(new: Compared, renamed: Sequence[TensorChange]) -> bool:
    """Whether the names of the body, and of nothing else, gained or lost the prefix that transformers looks through."""
    prefixes = set()
    for change in renamed:
        assert change.old is not None
        one, other = sorted((change.old.name, change.name), key=len)
        if not other.endswith(one) or _HEAD.match(one):
            return False
        prefixes.add(other[: len(other) - len(one)].rstrip("."))
    described = new.inspection.leading
    kind = described.metadata.get("model_type") if described is not None else None
    if kind is None:  # settings of old releases: any name can be a body's but those that wrappers put before it
        return len(prefixes) == 1 and not prefixes & _WRAPPERS
    return len(prefixes) == 1 and prefixes <= {*_BODIES, kind}
