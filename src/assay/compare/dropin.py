"""Whether new can take old's place: the contract with whoever calls it, part by part.

Every part answers *no* (what is called in the old way fails or means something else), *unknown* (that depends on what
is not understood, or on the caller), or *yes* with what was found to be the same. One no decides, then one unknown.
Quality is no part of it: a worse model with the same contract is a drop-in replacement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from assay.compare.callers import relied_on
from assay.compare.interface import Reason, ports, tokenizer
from assay.compare.kinship import adapts, is_learned, same_task
from assay.compare.sides import Compared
from assay.compare.tensors import Tensors
from assay.compare.weights import is_head
from assay.compare.words import brief, listing, names
from assay.spec.changes import Answer, Area, DropIn, Effect, Item, ItemKind, State, TensorChange
from assay.spec.figures import plural
from assay.spec.finding import Finding, Severity

BARE = frozenset({"pytorch", "safetensors", "npz", "hdf5", "tensorflow-checkpoint", "ggml"})
"""Formats of weights alone: the caller's own code builds the model, and must know its tensors by name and shape."""

_EXCHANGED = frozenset({"onnx", "pmml", "mlflow"})
"""Formats whose recorded framework is what wrote them, not what runs them."""

_RUNS = frozenset({Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ})

_VECTORS = frozenset({"hidden_size", "d_model", "n_embd", "dim", "word_embedding_dimension", "embedding_length"})
"""Settings that are the length of what a model without a head gives."""
_OUTPUTS = frozenset(
    {"num_labels", "id2label", "label2id", "num_classes", "num_class", "projection_dim", "problem_type"}
)
_LENGTHS = frozenset({"max_position_embeddings", "n_positions", "n_ctx", "max_seq_length", "model_max_length"}) | {
    "context_length"
}
"""Settings that are the longest input."""
_INPUTS = frozenset({"image_size", "num_channels", "sampling_rate", "num_mel_bins", "feature_size", "type_vocab_size"})
_CODE = frozenset({"auto_map", "custom_pipelines", "trust_remote_code"})

_OBJECTS = frozenset({"pickle", "joblib", "skops"})
"""Formats that give the caller an object, whose class says what can be called."""

_SELF_CONTAINED = frozenset({"onnx", "tflite", "coreml", "openvino"})
"""Formats whose graph says by what scale integers stand for numbers."""

_GRAPHS = frozenset({"torchscript", "torch-export", "onnx"})
"""Formats in which code is the graph itself, and not what somebody's process imports."""

TENSOR_RULE = "diff-unreadable-tensor"
"""Rule of findings about single tensors, whose states tell the same."""

_BRINGS: Mapping[str, frozenset[str]] = {
    "transformers": frozenset({"safetensors", "tokenizers", "torch", "numpy"}),
    "sentence-transformers": frozenset({"transformers", "tokenizers", "safetensors", "torch", "numpy"}),
    "diffusers": frozenset({"safetensors", "numpy"}),
    "peft": frozenset({"transformers", "safetensors", "torch", "tokenizers", "numpy"}),
    "scikit-learn": frozenset({"joblib", "numpy"}),
}
"""What comes with a distribution, as its own metadata requires it, or without which its models do not run (torch):
nobody has to install that in addition."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def drop_in(
    old: Compared, new: Compared, tensors: Tensors, items: Sequence[Item], findings: Sequence[Finding]
) -> DropIn:
    """Whether whoever calls the old one can call the new one instead."""
    reasons: list[Reason] = [
        *_numbers(tensors.changes),
        *_kind(old, new),
        *ports(old, new),
        *tokenizer(old, new, items),
        *_settings(old, new, items),
        *_tensors(old, new, tensors.changes),
        *_needs(old, new),
        *_code(old, new, items),
        *_areas(items),
        *relied_on(new, tensors.changes, items),
        *_unknown(old, new, tensors, findings),
    ]
    for answer in (Answer.NO, Answer.UNKNOWN):
        because = tuple(dict.fromkeys(text for given, text in reasons if given is answer))
        if because:
            return DropIn(answer, because)
    same = tuple(dict.fromkeys(text for _, text in reasons))
    return DropIn(Answer.YES, same or ("nothing that a caller relies on differs",))


def _numbers(changes: Sequence[TensorChange]) -> Iterator[Reason]:
    spoiled = [change for change in changes if change.nonfinite_appeared and not change.beside_the_model]
    if spoiled:
        where = listing([brief(change.name) for change in spoiled], 3)
        yield Answer.NO, f"NaN or infinite weights appeared in {where}"


def _kind(old: Compared, new: Compared) -> Iterator[Reason]:
    """Format, framework and task: what code opens and calls it."""
    if adapts(old, new):
        yield Answer.NO, "it is an adapter, which needs its base model beside it"
        return
    if adapts(new, old):
        yield Answer.NO, "it is a whole model, where the old one was an adapter"
        return
    before, after = old.inspection.leading, new.inspection.leading
    if before is None or after is None:
        return
    one, other = old.side().framework, new.side().framework
    if before.format != after.format and one and other and one != other:
        yield Answer.NO, f"another format, which another library runs ({before.format} → {after.format})"
    elif one and other and one != other and before.format not in _EXCHANGED:
        yield Answer.NO, f"another framework runs it: {brief(other)} instead of {brief(one)}"
    elif before.format != after.format:
        forms = f"{before.format} → {after.format}"
        yield Answer.UNKNOWN, f"another format ({forms}): assay.load opens both, a caller's own code may not"
    elif before.format == "catboost" and before.format_version != after.format_version:
        forms = f"{before.format_version} → {after.format_version}"
        yield Answer.UNKNOWN, f"another form of file ({forms}), which CatBoost's load_model must be told"
    else:
        yield Answer.YES, "the same format"
    one, other = old.inspection.first("architecture"), new.inspection.first("architecture")
    if one and other and one != other and {before.format, after.format} <= _OBJECTS:
        yield Answer.UNKNOWN, f"another class ({brief(one)} → {brief(other)}): its methods may differ"
    task, now = old.inspection.first("task"), new.inspection.first("task")
    if task and now and not same_task(task, now):
        yield Answer.NO, f"another task: {brief(now)} instead of {brief(task)}"


def _settings(old: Compared, new: Compared, items: Sequence[Item]) -> Iterator[Reason]:
    """Settings that are part of the contract."""
    headless = any(
        side.inspection.first("task") in {"feature-extraction", "sentence-similarity"}
        or str(side.inspection.first("architecture") or "").endswith("Model")
        for side in (old, new)
    )
    parts = {Area.CONFIG, Area.ARCHITECTURE, Area.PIPELINE}
    told = [item for item in items if item.area in parts and item.effect is Effect.BEHAVIOUR]
    for names_of, what in ((_OUTPUTS, "its outputs changed"), (_INPUTS, "it takes other inputs")):
        found = [item for item in told if _keys(item) & names_of]
        if found:
            yield Answer.NO, f"{what}: {listing([_told(item) for item in found], 3)}"
    for item in told:
        if _keys(item) & _VECTORS and headless:
            yield Answer.NO, f"it gives vectors of another length: {brief(item.old)} → {brief(item.new)}"
        elif _keys(item) & _LENGTHS and _number(item.new) < _number(item.old):
            yield Answer.NO, f"it takes shorter inputs: at most {brief(item.new)} instead of {brief(item.old)}"


def _keys(item: Item) -> set[str]:
    """The names on the way to a place in a file."""
    return set(_KEY.findall(item.path.rpartition(": ")[2]))


def _told(item: Item) -> str:
    """A setting with its values, where both are short."""
    place = brief(item.path.rpartition(": ")[2])
    plain = not any(isinstance(value, (dict, list, tuple)) for value in (item.old, item.new))
    if item.kind is ItemKind.CHANGED and plain and item.new is not None:
        return f"{place} {brief(item.old)} → {brief(item.new)}"
    return place


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("inf")


def _tensors(old: Compared, new: Compared, changes: Sequence[TensorChange]) -> Iterator[Reason]:
    """For bare weights: the code that builds the model must find the tensors it knows; for others, the same outputs."""
    model = [one for one in changes if one.effect is Effect.BEHAVIOUR or one.state is State.EQUAL]
    model = [one for one in model if not one.beside_the_model]
    scaled = [one for one in model if one.state is State.RECAST and one.numbers is None]
    leading = new.inspection.leading
    alone = leading is None or leading.format not in _SELF_CONTAINED
    if alone and scaled and scaled[0].old and scaled[0].new:
        dtypes = f"{brief(scaled[0].new.dtype)} instead of {brief(scaled[0].old.dtype)}"
        yield Answer.UNKNOWN, f"its weights are {dtypes}: what runs it must know their scales"
    sides = {side.inspection.leading.format for side in (old, new) if side.inspection.leading}
    if not sides or not any(change.old and change.new for change in model):
        if sides and sides <= BARE and any(change.old for change in model):
            yield Answer.NO, "code that loads the old one finds none of its tensors"
        return
    if not sides <= BARE:
        yield from _heads(old, new, model)
        return
    found = []
    for state, words in (
        (State.REMOVED, "missing"),
        (State.ADDED, "new"),
        (State.RESHAPED, "of another shape"),
    ):
        names = [brief(one.name) for one in model if one.state is state]
        if names:
            found.append(
                (Answer.NO, f"{plural(len(names), 'tensor')} {words} to code that loads it: {listing(names, 3)}")
            )
    renamed = [one for one in model if one.old and one.new and one.old.name != one.new.name]
    if renamed:
        example = renamed[0]
        assert example.old is not None
        change = f"{brief(example.old.name)} → {brief(example.name)}"
        found.append((Answer.NO, f"{plural(len(renamed), 'tensor')} under another name ({change})"))
    yield from found or [(Answer.YES, "the same tensors by name and shape")]


def _heads(old: Compared, new: Compared, model: Sequence[TensorChange]) -> Iterator[Reason]:
    """What the tensors say of the outputs, where neither side states them."""
    if old.inspection.first("outputs") and new.inspection.first("outputs"):
        return
    heads = [one for one in model if one.trained and is_head(one)]
    gone = sorted({_part(one) for one in heads if one.state is State.REMOVED})
    more = sorted({_part(one) for one in heads if one.state is State.ADDED} - set(gone))
    if gone and more:
        yield Answer.NO, f"another head: {listing(more, 3)} instead of {listing(gone, 3)}"
    elif gone:
        yield Answer.NO, f"a head is gone: {listing(gone, 3)}"
    elif more:
        yield Answer.NO, f"a head was added: {listing(more, 3)}"
    for one in heads:
        if one.state is State.RESHAPED and one.old and one.new and one.old.shape and one.new.shape:
            yield Answer.NO, f"{brief(one.name)} gives {one.new.shape[0]:,} values instead of {one.old.shape[0]:,}"
            return


def _part(change: TensorChange) -> str:
    """The part of the model that a tensor belongs to, at the top of its name."""
    parts = [part for part in re.split(r"[./]", change.name) if part not in {"model", "module", "base_model"}]
    return brief(parts[0] if parts else change.name)


def _needs(old: Compared, new: Compared) -> Iterator[Reason]:
    """Libraries that it takes now, and those of which another main release made it."""
    before, after = _requirements(old), _requirements(new)
    there = set(before).union(*(_BRINGS.get(name, frozenset()) for name in before))
    more = sorted(set(after) - there)
    if before and more:
        yield Answer.NO, f"it needs {listing([brief(name) for name in more], 4)} now"
    elif before or after:
        yield Answer.YES, "no new requirement"
    for name in sorted(set(before) & set(after)):
        one, other = before[name], after[name]
        if one is not None and other is not None and (one.major, one.epoch) != (other.major, other.epoch):
            yield Answer.UNKNOWN, f"made with {name} {other}, the old one with {one}: what runs it must know both"


def _requirements(side: Compared) -> Mapping[str, Version | None]:
    """Distributions that loading it takes, and the release it was made with where that is stated."""
    found: dict[str, Version | None] = {}
    stated = side.inspection.summary().get("requirements", ())
    for text in stated if isinstance(stated, list) else ():
        try:
            requirement = Requirement(str(text))
        except InvalidRequirement:
            continue
        pins = [pin.version for pin in requirement.specifier if pin.operator == "=="]
        try:
            found[canonicalize_name(requirement.name)] = Version(pins[0]) if pins else None
        except InvalidVersion:
            found[canonicalize_name(requirement.name)] = None
    return found


def _code(old: Compared, new: Compared, items: Sequence[Item]) -> Iterator[Reason]:
    """Whether loading runs code that it did not run before."""
    own = [item for item in items if set(_KEY.findall(item.path)) & _CODE and item.kind is not ItemKind.REMOVED]
    code = [item for item in items if item.area is Area.CODE and item.effect is Effect.BEHAVIOUR]
    gained = [finding for finding in new.inspection.all_findings if finding.severity in _RUNS]
    known = {finding.rule for finding in old.inspection.all_findings if finding.severity in _RUNS}
    gained = [finding for finding in gained if finding.rule not in known]
    if own:
        yield Answer.NO, f"it needs code of its own to load: {brief(own[0].path)}"
    elif gained:
        yield Answer.NO, f"loading it runs or reaches what the old one did not: {brief(gained[0].message)}"
    audit = [item for item in items if item.area is Area.AUDIT and item.kind is ItemKind.ADDED]
    if audit and not gained and any(item.effect is Effect.BEHAVIOUR for item in audit):
        yield Answer.UNKNOWN, f"an audit finds what it did not find before: {brief(audit[0].path)}"
    if code and not own and not _stated(old, new):
        places = [brief(item.path.rpartition(": ")[2]) for item in code]
        yield Answer.UNKNOWN, f"its code changed: {listing(places, 3)}"


def _stated(old: Compared, new: Compared) -> bool:
    """Whether the code is the model's own graph, called through inputs and outputs that both state."""
    graphs = all(side.inspection.leading and side.inspection.leading.format in _GRAPHS for side in (old, new))
    return graphs and all(
        side.inspection.first(attribute) for side in (old, new) for attribute in ("inputs", "outputs")
    )


def _areas(items: Sequence[Item]) -> Iterator[Reason]:
    """What other areas say: preprocessing is the contract, the steps of a pipeline may be."""
    told: Mapping[Area, tuple[Answer, Callable[[str], str]]] = {
        Area.PREPROCESSING: (Answer.NO, lambda names: f"it prepares its inputs in another way: {names}"),
        Area.FILES: (Answer.UNKNOWN, lambda names: f"what is not understood differs: {names}"),
    }
    for area, (answer, words) in told.items():
        names = [brief(item.path) for item in items if item.area is area and item.effect is Effect.BEHAVIOUR]
        if names:
            yield answer, words(listing(names, 3))
    signature = [item for item in items if item.area is Area.SIGNATURE and item.effect is Effect.BEHAVIOUR]
    steps = [
        item
        for item in items
        if item.area is Area.PIPELINE and item.effect is Effect.BEHAVIOUR and item.kind is not ItemKind.CHANGED
        if not is_learned(item)
    ]
    if steps:
        names = [brief(item.path.rpartition(": ")[2]) for item in steps]
        yield Answer.UNKNOWN, f"other steps: {listing(names, 3)}"
    opsets = [item for item in items if item.area is Area.GRAPH and "opset" in item.path.lower()]
    for item in opsets[:1]:
        if item.effect is Effect.BEHAVIOUR and _number(item.new) > _number(item.old):
            yield Answer.UNKNOWN, f"it needs a runtime of opset {brief(item.new)}, the old one of {brief(item.old)}"
    yield from _signature(signature)


def _signature(items: Iterable[Item]) -> Iterator[Reason]:
    """What is stated of inputs and outputs outside the model's own ports (an MLflow signature)."""
    for item in items:
        if item.kind is not ItemKind.ADDED and set(_KEY.findall(item.path)) & {"MLmodel", "signature"}:
            yield Answer.NO, f"its stated signature changed: {brief(item.path)}"


def missing(findings: Sequence[Finding]) -> list[Finding]:
    """What says that something could not be compared."""
    return [finding for finding in findings if finding.severity is Severity.INCOMPLETE]


def _unknown(old: Compared, new: Compared, tensors: Tensors, findings: Sequence[Finding]) -> Iterator[Reason]:
    """What was not compared and could matter."""
    for side, name in zip((old, new), names(old.side(), new.side()), strict=True):
        if side.inspection.leading is None:
            yield Answer.UNKNOWN, f"nobody here knows the format of {name}"
        elif not all(found.complete for found in side.inspection.descriptions):
            yield Answer.UNKNOWN, f"{name} could not be read to its end"
    unread = [one for one in tensors.changes if one.state is State.UNREADABLE and one.effect is Effect.BEHAVIOUR]
    same = all(one.old and one.new and one.old.shape == one.new.shape for one in unread)
    if unread and not same:
        yield Answer.UNKNOWN, f"{plural(len(unread), 'tensor')} could not be compared"
    missed = [finding for finding in missing(findings) if finding.rule != TENSOR_RULE]
    if missed:
        yield Answer.UNKNOWN, f"not everything could be compared: {brief(missed[0].message)}"
