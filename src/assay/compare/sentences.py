"""A few sentences about a comparison, as a person would write them to a colleague: most important first."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from assay.compare.boosted import GOES_ON, Regrown, regrown
from assay.compare.dropin import TENSOR_RULE, missing
from assay.compare.items import CALLED, RENAMED
from assay.compare.kinship import CLASSICAL, FOREIGN, MOSTLY, adapts, same_purpose
from assay.compare.moved import broken_sentence, weights_sentence
from assay.compare.others import also, measured, remarks
from assay.compare.renamed import NAMES, ORDER
from assay.compare.shared import is_second_name
from assay.compare.sides import Compared
from assay.compare.tensors import Tensors
from assay.compare.weights import NEAR, Weights, is_head, weigh
from assay.compare.words import brief, listing, names
from assay.spec.changes import Answer, Area, DropIn, Effect, Item, ItemKind, Kinship, Match, Side, State
from assay.spec.figures import number, plural
from assay.spec.finding import Finding

MOST = 6
_REASONS = 2
HANDFUL = 8
"""Weights up to which they were changed one by one: training moves at least a row."""
FAR = 0.4
"""Typical relative distance beyond which "fine-tune" would say too much."""

_WITH = {
    Area.ARCHITECTURE: "another architecture",
    Area.SIGNATURE: "another signature",
    Area.CONFIG: "other settings",
    Area.GENERATION: "other generation settings",
    Area.TOKENIZER: "another tokenizer",
    Area.PREPROCESSING: "another preprocessing",
    Area.PIPELINE: "other pipeline steps or parameters",
    Area.GRAPH: "another graph",
    Area.CODE: "other code",
    Area.DEPENDENCIES: "other dependencies",
    Area.FILES: "other files",
}
"""What else the same weights can come with, in the order of a sentence."""


_ABOUT = {Area.METADATA: "metadata", Area.FORMAT: "the way it is packed", Area.FILES: "files beside the model"}


def sentences(
    old: Compared,
    new: Compared,
    kin: Kinship,
    tensors: Tensors,
    items: Sequence[Item],
    decision: DropIn,
    findings: Sequence[Finding] = (),
) -> tuple[str, ...]:
    """Two to six sentences a person would write.

    Args:
        old, new: the two sides.
        kin: how they relate.
        tensors, items: what changed.
        decision: whether new can take old's place.
        findings: what could not be compared.
    """
    weights = weights_sentence(kin, tensors) if kin is not Kinship.IDENTICAL else ""
    related = _related(old, new, kin, tensors, items)
    ranked = [  # in the order in which they are read, each with its rank when there are too many
        (0, related),
        (1, broken_sentence(tensors.changes)),
        (2, weights),
        (5, also(_untold(kin, items), _told_already(kin, items, weighed=bool(weights)), weights=bool(weights))),
        (4, measured(items)),
        (6, remarks(items)),
        (3, _missed(findings, decision)),
    ]
    said = [(rank, text) for rank, text in ranked if text]
    kept = {rank for rank, _ in sorted(said)[: MOST - 1]}
    return (*(text for rank, text in said if rank in kept), _decided(decision))


def _related(old: Compared, new: Compared, kin: Kinship, tensors: Tensors, items: Sequence[Item]) -> str:
    """The first sentence: how the two relate."""
    before, after = old.side(), new.side()
    was, _ = names(before, after)
    weights = weigh(tensors.changes)
    if kin is Kinship.IDENTICAL:
        return f"The same files as {was}, byte for byte."
    if kin is Kinship.SAME_MODEL:
        return _same(was, before, after, items, tensors)
    if kin is Kinship.SAME_WEIGHTS:
        return _same_weights(was, before, after, items, tensors)
    if kin is Kinship.RECAST:
        return _recast(was, tensors)
    if kin is Kinship.ADAPTER:
        return _adapter(was, old, new, items)
    if kin is Kinship.FINE_TUNE and not weights.every and (trees := regrown(items)) is not None:
        return _regrown(was, trees)
    if kin is Kinship.FINE_TUNE:
        return _fine_tune(was, weights, _same_parts(old, new, items, foreign=weights.foreign))
    if kin is Kinship.SAME_ARCHITECTURE:
        return (
            f"The same architecture as {was}, by the names and shapes of its tensors; "
            "whether its weights continue the old ones is not known."
        )
    if kin is Kinship.RETRAINED:
        return _retrained(was, before, after, old, new, items)
    if kin is Kinship.OTHER_ARCHITECTURE and before.format == after.format == "peft":
        return f"Another adapter{_adapter_kind(new)}, where {was} is one{_adapter_kind(old)}."
    if kin is Kinship.OTHER_ARCHITECTURE:
        return _other(was, before, after, weights)
    told = _strangers(before, after, weighed=bool(weights.every), aim=same_purpose(old, new))
    return f"Nothing ties it to {was}: {told}."


def _regrown(was: str, trees: Regrown) -> str:
    """Trees of which most are the old ones."""
    text = (trees.item.text or "").partition(":")[0]
    begin = "Trained on from" if GOES_ON in (trees.item.text or "") else "Mostly the trees of"
    return f"{begin} {was}: {text}."


def _fine_tune(was: str, weights: Weights, same: str) -> str:
    """Near weights are a fine-tune; far ones that still resemble the old ones are said to be just that."""
    if weights.spoiled:
        return f"A damaged copy of {was}: all that differs are weights that are no numbers any more."
    if not weights.moved and not weights.unknown and (weights.added or weights.removed):
        return f"Built on {was}{same}."
    if _edited(weights):
        return f"A copy of {was} in which {_single(weights)}: training would have moved more than that."
    unlike = weights.correlation is None or weights.correlation < NEAR
    if weights.equal and weights.moved and unlike and weights.far >= FAR:
        kept = f"{len(weights.equal):,} of {len(weights.pairs):,} tensors"
        return f"Partly replaced: {kept} are those of {was}, the others are not."
    if weights.far < FAR or weights.correlation is None:
        heads = any(is_head(one) for one in weights.added) and any(is_head(one) for one in weights.removed)
        heads = heads or _resized_head(weights)
        return f"Fine-tune of {was}{' with another head' if heads else ''}{same}."
    told = f"its weights moved far and still resemble the old ones (correlation {weights.correlation:.2f})"
    return f"Looks like further training of {was}{same}; {told}."


def _edited(weights: Weights) -> bool:
    """Whether a handful of single elements differ, fewer than one row of a matrix that was trained on would be."""
    alone = not (weights.added or weights.removed or weights.unknown)
    partly = all(one.numbers is not None and one.numbers.changed_fraction < MOSTLY for one in weights.moved)
    return alone and partly and 0 < _singles(weights) <= HANDFUL and 2 * len(weights.moved) < len(weights.pairs)


def _singles(weights: Weights) -> int:
    """How many elements of the moved tensors differ."""
    sizes = ((one.numbers, math.prod(one.new.shape)) for one in weights.moved if one.new)
    return sum(max(1, round(numbers.changed_fraction * size)) for numbers, size in sizes if numbers)


def _single(weights: Weights) -> str:
    """How many elements differ, and in how many tensors."""
    count = _singles(weights)
    verb = "differs" if count == 1 else "differ"
    return f"{plural(count, 'weight')} of {plural(len(weights.moved), 'tensor')} {verb}"


def _resized_head(weights: Weights) -> bool:
    """Whether a head has another size, and that not because the vocabulary has."""
    resized = [one for one in weights.pairs if one.state is State.RESHAPED and one.new is not None]
    vocabulary = {one.new.shape[:1] for one in resized if one.new is not None and not is_head(one)}
    return any(is_head(one) and one.new is not None and one.new.shape[:1] not in vocabulary for one in resized)


def _same(was: str, before: Side, after: Side, items: Sequence[Item], tensors: Tensors) -> str:
    if before.format != after.format:
        return f"The same model as {was} in another format ({before.format} → {after.format})."
    library = _library(before, after, items)
    if library:
        return f"The same model as {was}, re-released with {library}."
    noted = sorted({item.area for item in items if not _outside(item)}, key=list(Area).index)
    renamed = any(
        one.old and one.new and one.old.name != one.new.name and not is_second_name(one) for one in tensors.changes
    )
    called = any(item.text == RENAMED for item in items)
    if before.files == after.files == 1 and called and not noted and not renamed:
        return f"The same model as {was}: only its file has another name."
    words = [_ABOUT.get(area, area.value) for area in noted]
    words = (["the names of its tensors"] if renamed else []) + words or ["the way it is packed"]
    verb = "differ" if len(words) > 1 or words[0].endswith("s") or words[0] == _ABOUT[Area.FILES] else "differs"
    return f"The same model as {was}: only {listing(words, 4)} {verb}, nothing that can change what it computes."


def _outside(item: Item) -> bool:
    """Whether an item tells only what a file is called or how large it is."""
    return item.area is Area.FILES and (item.path == "size" or item.text in {CALLED, RENAMED})


def _library(before: Side, after: Side, items: Sequence[Item]) -> str:
    """``a newer library (scikit-learn 1.9.0 → 1.9.1)``; empty when the releases are the same or not stated."""
    if before.framework == after.framework and before.framework_version and after.framework_version:
        one, other = before.framework_version, after.framework_version
        if one != other:
            return _moved_on(after.framework or "", one, other)
    for item in items:
        if item.area is Area.DEPENDENCIES and item.effect is Effect.NOTE and isinstance(item.new, str) and item.old:
            return _moved_on(item.path, str(item.old), item.new)
    return ""


def _moved_on(library: str, one: str, other: str) -> str:
    before, after = _release(one), _release(other)
    word = "a newer" if after > before else "an older" if after < before else "another"
    return f"{word} library ({brief(library)} {brief(one)} → {brief(other)})"


def _release(version: str) -> tuple[int, ...]:
    """A release's numbers, for order."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def _same_weights(was: str, before: Side, after: Side, items: Sequence[Item], tensors: Tensors) -> str:
    areas = {item.area for item in items if item.effect is Effect.BEHAVIOUR}
    template = [item for item in items if item.area is Area.TOKENIZER and "chat_template" in item.path]
    tokenizer = [item for item in items if item.area is Area.TOKENIZER and item.effect is Effect.BEHAVIOUR]
    words = [text for area, text in _WITH.items() if area in areas]
    if not words and before.format != after.format:
        return _converted(was, before, after)
    if template and len(template) == len(tokenizer):
        words = ["another chat template" if word == _WITH[Area.TOKENIZER] else word for word in words]
    form = f" in another format ({before.format} → {after.format})" if before.format != after.format else ""
    if all(item.path.startswith((ORDER, NAMES)) for item in items if _counts(item, Area.ARCHITECTURE)):
        moved = {item.path for item in items if _counts(item, Area.ARCHITECTURE)}
        layers = "its layers in another order" if any(path.startswith(ORDER) for path in moved) else "other names"
        words = [layers if word == _WITH[Area.ARCHITECTURE] else word for word in words]
    what = "weights" if weigh(tensors.changes).every else "trees"
    constants = [brief(one.name) for one in tensors.changes if one.effect is Effect.BEHAVIOUR]
    others = f"other constants beside them ({listing(constants, 3)})" if constants else "other constants beside them"
    return f"The same {what} as {was}{form}, with {listing(words, 4) or others}."


def _counts(item: Item, area: Area) -> bool:
    return item.area is area and item.effect is Effect.BEHAVIOUR


def _converted(was: str, before: Side, after: Side) -> str:
    return (
        f"The same weights as {was}, converted ({before.format} → {after.format}); "
        "what else the two formats hold was not compared."
    )


def _recast(was: str, tensors: Tensors) -> str:
    kept = {change.new.dtype for change in tensors.changes if change.state is State.RECAST and change.new}
    plain = all(dtype.startswith(("float", "bfloat")) and not dtype.startswith(("float8", "float4")) for dtype in kept)
    dtypes = listing([brief(dtype) for dtype in sorted(kept)], 3)
    if any(change.state is State.RECAST and change.numbers is None for change in tensors.changes):
        alike = any(change.match is Match.CONTENT and change.state is State.RECAST for change in tensors.changes)
        why = "its integers follow the old weights" if alike else "the same tensors by name and shape"
        return f"Looks like {was} quantised to {dtypes}: {why}."
    return f"The same model as {was}, {'kept as' if plain else 'quantised to'} {dtypes}."


def _adapter(was: str, old: Compared, new: Compared, items: Sequence[Item]) -> str:
    if adapts(old, new):
        return f"An adapter{_adapter_kind(new)}, where {was} is a whole model."
    if adapts(new, old):
        return f"A whole model, where {was} is an adapter."
    return f"An adapter was merged into {was}{_same_parts(old, new, items, foreign=0.0)}."


def _adapter_kind(adapter: Compared) -> str:
    """`` of rank 8 on q_proj and v_proj``, as its settings say."""
    found = next((one for one in adapter.inspection.descriptions if one.format == "peft"), None)
    settings = found.hyperparameters if found is not None else {}
    rank, places = settings.get("r"), settings.get("target_modules")
    text = f" of rank {rank}" if isinstance(rank, int) else ""
    if isinstance(places, (list, tuple)) and places:
        text += f" on {listing(sorted(brief(place) for place in places), 4)}"
    return text


def _same_parts(old: Compared, new: Compared, items: Sequence[Item], *, foreign: float) -> str:
    """``: the same architecture and tokenizer``, as far as both have them."""
    changed = {item.area for item in items if item.effect is Effect.BEHAVIOUR and item.kind is not ItemKind.ADDED}
    parts = []
    if foreign < FOREIGN and Area.ARCHITECTURE not in changed:
        parts.append("architecture")
    before, after = old.inspection.first("tokenizer"), new.inspection.first("tokenizer")
    if before and after and Area.TOKENIZER not in changed:
        told = any(item.area is Area.TOKENIZER and item.effect is Effect.BEHAVIOUR for item in items)
        if not told:
            parts.append("tokenizer")
        elif (before.kind, before.vocabulary_size) == (after.kind, after.vocabulary_size):
            parts.append("vocabulary")
    if old.inspection.first("inputs") and old.inspection.first("inputs") == new.inspection.first("inputs"):
        parts += ["inputs"] if len(parts) < 2 else []
    return f": the same {listing(parts, 3)}" if parts else ""


def _retrained(was: str, before: Side, after: Side, old: Compared, new: Compared, items: Sequence[Item]) -> str:
    if {before.framework, after.framework} & CLASSICAL:
        kind = brief(after.architecture) if after.architecture else f"kind of {brief(after.framework)} model"
        return f"Fitted anew: the same {kind} as {was}, with other learned values."
    same = _same_parts(old, new, items, foreign=0.0).removeprefix(": ")
    return f"Retrained: {same or 'the same kind of model'} as {was}, with weights that do not continue its own."


def _other(was: str, before: Side, after: Side, weights: Weights) -> str:
    shares = bool(weights.pairs)
    if before.format != after.format:
        forms = f"{before.format} → {after.format}"
        share = "few tensors have" if shares else "no tensor has"
        return (
            f"Another form of model than {was} ({forms}): {share} a counterpart, "
            "so that a conversion cannot be told from another model."
        )
    if before.architecture and before.architecture == after.architecture and {before.framework} <= CLASSICAL:
        return f"Another {brief(after.architecture)} than {was}: its parts are not the same."
    names_differ = before.architecture and after.architecture and before.architecture != after.architecture
    what = f" ({brief(before.architecture)} → {brief(after.architecture)})" if names_differ else ""
    size = ""
    if before.parameters and after.parameters and before.parameters != after.parameters:
        size = f": {number(before.parameters)} → {number(after.parameters)} parameters"
    return f"Another architecture than {was}{what}{size}{'' if shares else ', without one tensor in common'}."


def _strangers(before: Side, after: Side, *, weighed: bool, aim: bool) -> str:
    unknown = "something of an unknown format"
    one, other = (
        unknown if side.format == "unknown" else brief(side.architecture or side.format) for side in (before, after)
    )
    kinds = f"{one} became {other}" if one != other else f"both are {other}"
    if weighed:
        return f"{kinds}, and no tensor is shared"
    if not aim:
        return f"{kinds}, for another task or other inputs, and neither has tensors to tell by"
    return f"{kinds}, and neither has tensors to tell by"


def _untold(kin: Kinship, items: Sequence[Item]) -> Sequence[Item]:
    """The items without the one of trees, where the first sentence is about them."""
    trees = regrown(items) if kin is Kinship.FINE_TUNE else None
    return [item for item in items if trees is None or item is not trees.item]


def _told_already(kin: Kinship, items: Sequence[Item], *, weighed: bool) -> frozenset[Area]:
    """Areas that the first sentence has dealt with."""
    if kin is Kinship.ADAPTER and not weighed:  # two things of different kinds: everything differs
        return frozenset(Area)
    return frozenset({Area.DEPENDENCIES}) if kin is Kinship.SAME_MODEL and items else frozenset()


def _missed(findings: Sequence[Finding], decision: DropIn) -> str:
    missed = [finding for finding in missing(findings) if finding.rule != TENSOR_RULE]
    if not missed or any("not everything could be compared" in reason for reason in decision.reasons[:_REASONS]):
        return ""
    more = f", and {len(missed) - 1} more" if len(missed) > 1 else ""
    return f"Not everything could be compared: {brief(missed[0].message)}{more}."


def _decided(decision: DropIn) -> str:
    if decision.answer is Answer.YES:
        return "Drop-in replacement: yes."
    reasons = list(decision.reasons[:_REASONS])
    more = len(decision.reasons) - len(reasons)
    rest = f" ({more} more {'reason' if more == 1 else 'reasons'})" if more else ""
    return f"Drop-in replacement: {decision.answer.value}, because {'; '.join(reasons)}{rest}."
