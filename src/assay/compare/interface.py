"""The part of the contract that callers hold in their hands: inputs, outputs, and how text becomes ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from assay.compare.sides import Compared
from assay.compare.words import brief, listing
from assay.spec.changes import Answer, Area, Effect, Item, ItemKind
from assay.spec.description import Port, Tokenizer
from assay.spec.figures import plural

KERAS = frozenset({"keras", "keras-h5"})
"""Formats that are called by the place of an input, and whose names of layers Keras may have made."""
_COUNTER = re.compile(r"_\d+$")

Reason = tuple[Answer, str]
"""What one part of the contract answers, and why."""


def ports(old: Compared, new: Compared) -> Iterator[Reason]:
    """Inputs and outputs, as both sides state them."""
    freed = _freed(old.inspection.first("inputs") or (), new.inspection.first("inputs") or ())
    for attribute in ("inputs", "outputs"):
        before: Sequence[Port] = old.inspection.first(attribute) or ()
        after: Sequence[Port] = new.inspection.first(attribute) or ()
        if before and after:
            named = under_old_names(old, new, before, after)
            worse = list(_port_changes(before, _bound(named, freed), attribute.removesuffix("s")))
            yield from worse or [(Answer.YES, f"the same {attribute}")]
        elif before and not after:
            yield Answer.UNKNOWN, f"it does not state its {attribute} any more"


def _freed(before: Sequence[Port], after: Sequence[Port]) -> Mapping[str, int]:
    """Names of dimensions that any size fits now, to the one size that fitted before."""
    old = {port.name: port for port in before}
    found: dict[str, int] = {}
    for port in after:
        was = old.get(port.name)
        if was is not None and was.shape is not None and port.shape is not None and len(was.shape) == len(port.shape):
            sizes = zip(was.shape, port.shape, strict=True)
            found |= {now: size for size, now in sizes if isinstance(size, int) and isinstance(now, str)}
    return found


def _bound(ports: Sequence[Port], freed: Mapping[str, int]) -> list[Port]:
    """Ports as who gives the old inputs sees them: outputs follow the inputs in what was freed."""
    return [
        port
        if port.shape is None
        else replace(port, shape=tuple(freed.get(size, size) if isinstance(size, str) else size for size in port.shape))
        for port in ports
    ]


def under_old_names(old: Compared, new: Compared, before: Sequence[Port], after: Sequence[Port]) -> Sequence[Port]:
    """Ports under their old names, where Keras made the names by counting layers and there is but one input."""
    formats = {side.inspection.leading.format for side in (old, new) if side.inspection.leading}
    single = all(len(side.inspection.first("inputs") or ()) <= 1 for side in (old, new))
    alike = [_COUNTER.sub("", port.name) for port in before] == [_COUNTER.sub("", port.name) for port in after]
    if not formats <= KERAS or not single or not alike:
        return after
    return [replace(port, name=was.name) for was, port in zip(before, after, strict=True)]


def _port_changes(before: Sequence[Port], after: Sequence[Port], noun: str) -> Iterator[Reason]:
    old, new = {port.name: port for port in before}, {port.name: port for port in after}
    gone = [brief(name) for name in old if name not in new]
    more = [brief(name) for name in new if name not in old]
    if gone and more and len(before) == len(after) and len(gone) == len(more):
        yield Answer.NO, f"{noun}s have other names: {listing(more, 3)} instead of {listing(gone, 3)}"
        return
    if gone:
        yield Answer.NO, f"{plural(len(gone), noun)} less: {listing(gone, 3)}"
    if more:
        # What was not asked for can be ignored as an output; as an input it has to be given.
        answer = Answer.NO if noun == "input" else Answer.YES
        yield answer, f"{plural(len(more), noun)} more: {listing(more, 3)}"
    changed = [(old[name], port) for name, port in new.items() if name in old and not _accepts(old[name], port, noun)]
    for one, other in changed[:3]:
        yield Answer.NO, f"{noun} {brief(one.name)} is {_port(other)} instead of {_port(one)}"
    if not gone and not more and noun == "input" and [port.name for port in before] != [port.name for port in after]:
        yield Answer.NO, "inputs come in another order"


def _accepts(old: Port, new: Port, noun: str) -> bool:
    """Whether what fitted the old port fits the new one; an unstated shape or any size fits all that comes in."""
    if old.dtype != new.dtype:
        return False
    if old.shape is None or new.shape is None:
        return True
    if len(old.shape) != len(new.shape):
        return False
    pairs = zip(old.shape, new.shape, strict=True)
    free = [not isinstance(new_side, int) if noun == "input" else False for new_side in new.shape]
    return all(
        open_ or one == other or not (isinstance(one, int) or isinstance(other, int))
        for open_, (one, other) in zip(free, pairs, strict=True)
    )


def _port(port: Port) -> str:
    if port.shape is None:
        return brief(port.dtype)
    return f"{brief(port.dtype)}[{', '.join('?' if side is None else brief(str(side)) for side in port.shape)}]"


def tokenizer(old: Compared, new: Compared, items: Sequence[Item]) -> Iterator[Reason]:
    """How text becomes ids: kind, vocabulary, special tokens, chat template."""
    before: Tokenizer | None = old.inspection.first("tokenizer")
    after: Tokenizer | None = new.inspection.first("tokenizer")
    if before is None and after is None:
        return
    if before is None or after is None:
        yield (Answer.NO, "no tokenizer any more") if after is None else (Answer.YES, "a tokenizer came with it")
        return
    found: list[Reason] = []
    if before.kind != after.kind:
        found.append((Answer.NO, f"another tokenizer: {brief(after.kind)} instead of {brief(before.kind)}"))
    sizes = before.vocabulary_size, after.vocabulary_size
    if None not in sizes and sizes[0] != sizes[1]:
        word = "grew" if (sizes[1] or 0) > (sizes[0] or 0) else "shrank"
        found.append((Answer.NO, f"the vocabulary {word} from {sizes[0]:,} to {sizes[1]:,} tokens"))
    changed = [role for role, token in before.special_tokens.items() if after.special_tokens.get(role, token) != token]
    if changed:
        found.append((Answer.NO, f"other special tokens: {listing([brief(role) for role in changed], 3)}"))
    items = [item for item in items if item.area is Area.TOKENIZER and item.effect is Effect.BEHAVIOUR]
    template = before.chat_template != after.chat_template or any("chat_template" in item.path for item in items)
    if template:
        found.append((Answer.UNKNOWN, "another chat template: callers that write prompts themselves must follow it"))
    others = [item for item in items if "chat_template" not in item.path]
    if others and not any(answer is Answer.NO for answer, _ in found):
        # A file that came or went may say what was the case before.
        answer = Answer.NO if any(item.kind is ItemKind.CHANGED for item in others) else Answer.UNKNOWN
        found.append((answer, f"the tokenizer changed: {listing([brief(item.path) for item in others], 3)}"))
    yield from found or [(Answer.YES, "the same tokenizer")]
