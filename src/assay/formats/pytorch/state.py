"""Finding the tensors of a saved object: under which names, in which role, in which modules.

Concept: what torch saves is anything from a flat state dict to a training checkpoint or a whole object tree. The walk
names every tensor by its path, as ``state_dict`` does inside modules, and says what it is part of: the model, an
optimizer, an averaged copy, or something else of the training run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from assay.containers.pickle.values import Blob, Call, Global, Opaque, Persistent, Symbol, Unknown
from assay.formats.pytorch.graph import attributes_of, key_text, mapping_of
from assay.formats.pytorch.rebuild import array_of, tensor_of
from assay.formats.pytorch.values import Malformed, TensorValue, class_of, shorten
from assay.spec.description import Component
from assay.spec.json import Json

MAX_NESTING = 64
"""Containers inside each other that are looked into."""

MAX_NODES = 20_000_000
"""Values looked at, numbers and texts included."""

MAX_CONTAINERS = 200_000
"""Containers and objects looked into; what a hostile pickle shares a million times costs no more than this."""

MAX_TENSORS = 200_000

MAX_MALFORMED = 10_000
"""Tensors that make no sense before the walk gives up."""

MAX_NAME = 500
"""Characters of a tensor's name."""

MAX_COMPONENTS = 10_000

_MODEL = re.compile(
    r"state_dict|^(?:net)?[GD](?:_state_dict)?$"
    r"|(?:^|_)(?:model|net|network|module|weights|params|generator|discriminator)(?:$|_)"
)
_OPTIMIZER = re.compile(r"optim|(?:^|_)opt(?:$|_)", re.IGNORECASE)
_AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged|shadow)(?:$|_)", re.IGNORECASE)
_TRAINING = re.compile(
    r"sched|scaler|rng|callback|loops|hyper_?param|hparams|history|metric"
    r"|(?:^|_)(?:loss|criterion|args|config)(?:$|_|es$)",
    re.IGNORECASE,
)


_LEAVES = (str, bytes, bytearray, int, float, Global, Persistent, Blob)


class Role(StrEnum):
    """What a tensor is part of."""

    MODEL = "model"
    OPTIMIZER = "optimizer"
    AVERAGED = "averaged model"
    OTHER = "other"
    UNDECIDED = "undecided"
    """not decided before the whole object was seen; ``find_tensors`` never returns it"""


@dataclass(frozen=True, slots=True)
class Located:
    """A tensor and where in the object it was found.

    Args:
        name: its path, parts joined by dots; unique.
        tensor: the tensor.
        role: what it is part of.
        buffer: whether a module holds it as a buffer, so that it is not trained.
    """

    name: str
    tensor: TensorValue
    role: Role
    buffer: bool = False


@dataclass(slots=True)
class Found:
    """Everything the walk found.

    Args:
        tensors: in the order of the file.
        modules: path and call of every object that is an ``nn.Module``, parents first.
        malformed: path and reason of every tensor that is not what torch writes.
        truncated: why the walk ended before the graph did, or None.
    """

    tensors: list[Located] = field(default_factory=list)
    modules: list[tuple[str, Call]] = field(default_factory=list)
    malformed: list[tuple[str, str]] = field(default_factory=list)
    truncated: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A value on the walk's stack."""

    value: object
    path: str
    depth: int
    role: Role | None
    buffer: bool
    above: _Ancestor | None


@dataclass(frozen=True, slots=True)
class _Ancestor:
    """A container we are inside of."""

    identity: int
    above: _Ancestor | None


Declared = Mapping[str, frozenset[str]]
"""Class name to the attributes its code declares as parameters (TorchScript)."""


_LEAF = _Place(None, "", 0, None, buffer=False, above=None)
# Stands for every value that can hold no tensor, so that a list of a million numbers costs little.


def find_tensors(root: object, *, declared: Declared | None = None, most: int = MAX_CONTAINERS) -> Found:
    """Walk the object graph; see ``Found``. Bounded by the module's limits.

    Args:
        root: the object.
        declared: for TorchScript, what the code declares. Every tensor then belongs to the model, and those that are
            no declared parameter count as buffers.
        most: containers that are looked into.
    """
    found = Found()
    role = whole_role(root) if declared is None else Role.MODEL
    names: dict[str, int] = {}
    known: dict[int, TensorValue] = {}
    # Iterators, not lists, on the stack: a list shared by a list shared by a list must not be written out.
    stack: list[Iterator[_Place]] = [iter((_Place(root, "", 0, role, buffer=False, above=None),))]
    looked_at = looked_into = 0
    while stack:
        place = next(stack[-1], None)
        if place is None:
            stack.pop()
            continue
        looked_at += 1
        if looked_at > MAX_NODES or len(found.tensors) >= MAX_TENSORS or len(found.malformed) >= MAX_MALFORMED:
            found.truncated = f"it has too many values, at most {MAX_TENSORS:,} tensors are listed"
            break
        if place is _LEAF:
            continue
        looked_into += 1
        if looked_into > most:
            found.truncated = f"it has more than {most:,} containers"
            break
        try:
            tensor = _tensor(place.value, known)
        except Malformed as error:
            found.malformed.append((place.path, str(error)))
            continue
        if tensor is not None:
            _keep(found, names, place, tensor)
        elif place.depth >= MAX_NESTING:
            found.truncated = f"it nests deeper than {MAX_NESTING} containers"
        elif not _inside_itself(place):
            if isinstance(place.value, Call) and is_module(place.value) and len(found.modules) < MAX_COMPONENTS:
                found.modules.append((place.path, place.value))
            stack.append(_children(place, declared))
    found.tensors = _settle(found.tensors)
    return found


def _tensor(value: object, known: dict[int, TensorValue]) -> TensorValue | None:
    """The tensor a value is, if it is one; *known* keeps it by identity, for a value that many places share."""
    tensor = known.get(id(value))
    if tensor is None:
        tensor = tensor_of(value) or array_of(value)
        if tensor is not None:
            known[id(value)] = tensor
    return tensor


def whole_role(root: object) -> Role | None:
    """What a file that is no model holds: an optimizer's state, or random state as Hugging Face's trainer saves it."""
    if not isinstance(root, dict):
        return None
    if "param_groups" in root and "state" in root:
        return Role.OPTIMIZER
    return Role.OTHER if {"python", "numpy", "cpu"} <= root.keys() else None


def is_module(call: Call) -> bool:
    """Whether an object has the attributes of a ``torch.nn.Module``."""
    attributes = attributes_of(call)
    return "_modules" in attributes and "_parameters" in attributes


def module_children(call: Call) -> list[tuple[str, Call]]:
    """The submodules of a module, by name."""
    children = mapping_of(attributes_of(call).get("_modules")) or []
    return [(key_text(key), child) for key, child in children if isinstance(child, Call)]


def module_settings(call: Call) -> dict[str, Json]:
    """The plain settings of a module (``in_features``): public attributes that are numbers, texts or tuples of them."""
    settings: dict[str, Json] = {}
    for key, value in attributes_of(call).items():
        if not isinstance(key, str) or key.startswith("_") or key == "training":
            continue
        simple = _simple(value)
        if simple is not None and len(settings) < 64:
            settings[shorten(key, 100)] = simple
    return settings


def component_of(name: str, call: Call, budget: list[int], depth: int = MAX_NESTING) -> Component:
    """A module and its submodules as components.

    Args:
        name: its name in its parent.
        call: the module.
        budget: one number, the components that may still be made; counted down.
        depth: nesting that is followed.
    """
    budget[0] -= 1
    fitted: dict[str, str] = {}
    for holder in ("_parameters", "_buffers"):
        for key, value in mapping_of(attributes_of(call).get(holder)) or []:
            try:
                tensor = tensor_of(value)
            except Malformed:
                continue
            if tensor is not None and len(fitted) < 256:
                fitted[key_text(key)] = tensor.text
    children = []
    if depth > 0:
        for child_name, child in module_children(call):
            if budget[0] <= 0:
                break
            children.append(component_of(child_name, child, budget, depth - 1))
    return Component(name, class_of(call), module_settings(call), fitted, tuple(children))


def _inside_itself(place: _Place) -> bool:
    ancestor = place.above
    while ancestor is not None:
        if ancestor.identity == id(place.value):
            return True
        ancestor = ancestor.above
    return False


def _children(place: _Place, declared: Declared | None) -> Iterator[_Place]:
    above = _Ancestor(id(place.value), place.above)
    for key, child, buffer in _parts(place.value, declared):
        if child is None or isinstance(child, _LEAVES):
            yield _LEAF
            continue
        path = _join(place.path, key) if key else place.path
        role = place.role or _role(key, place.depth, child)
        yield _Place(child, path, place.depth + 1, role, place.buffer or buffer, above)


def _parts(value: object, declared: Declared | None) -> Iterable[tuple[str, object, bool]]:
    pairs = mapping_of(value)
    if pairs is not None:
        yield from ((key_text(key), child, False) for key, child in pairs)
    elif isinstance(value, (list, tuple)):
        yield from ((str(index), child, False) for index, child in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((str(index), _bare(child), False) for index, child in enumerate(value))
    if not isinstance(value, Symbol):
        return
    if isinstance(value, Unknown):
        # A stream that breaks off leaves here what was on its stack.
        yield "", value.about, False
    if isinstance(value, Call):
        attributes = attributes_of(value)
        module = "_modules" in attributes and "_parameters" in attributes
        for key, child in attributes.items():
            if module and key in ("_parameters", "_buffers", "_modules"):
                held = mapping_of(child) or []
                yield from ((key_text(name), part, key == "_buffers") for name, part in held)
            else:
                trained = declared is None or key in declared.get(class_of(value), ())
                part = isinstance(child, Call) and bool(attributes_of(child))
                yield key_text(key), child, not trained and not part
        if not attributes:
            yield "", value.state, False
        if pairs is None:
            arguments = (pair for pair in enumerate(value.args) if pair[1] is not attributes)
            yield from ((f"args.{index}", child, False) for index, child in arguments)
        yield from ((key_text(key), child, False) for key, child in value.kwargs.items())
    yield from ((str(index), child, False) for index, child in enumerate(value.items))


def _role(key: str, depth: int, child: object) -> Role | None:
    if not isinstance(child, (dict, list, tuple, Call)):
        return None
    if isinstance(child, dict) and "param_groups" in child and "state" in child:
        return Role.OPTIMIZER
    if depth > 2 or "." in key:
        # A dotted key is the name of a weight ("0._packed_params"), not of a part of a checkpoint.
        return None
    if _OPTIMIZER.search(key):
        return Role.OPTIMIZER
    if _AVERAGED.search(key):
        return Role.AVERAGED
    if _TRAINING.search(key):
        return Role.OTHER
    return Role.MODEL if depth == 0 and _MODEL.search(key) and not _is_leaf(child) else None


def _is_leaf(child: object) -> bool:
    try:
        return tensor_of(child) is not None
    except Malformed:
        return True


def _settle(tensors: list[Located]) -> list[Located]:
    """Decide the role of tensors in no recognised part: the model's, unless the file has a part that is the model's.

    An averaged model alone is the model.
    """
    roles = {located.role for located in tensors}
    rest = Role.OTHER if Role.MODEL in roles else Role.MODEL
    changes = {Role.UNDECIDED: rest}
    if not roles & {Role.MODEL, Role.UNDECIDED}:
        changes[Role.AVERAGED] = Role.MODEL
    return [replace(item, role=changes.get(item.role, item.role)) for item in tensors]


def _keep(found: Found, names: dict[str, int], place: _Place, tensor: TensorValue) -> None:
    role = place.role or Role.UNDECIDED
    _name(found, names, Located(place.path or "tensor", tensor, role, place.buffer))
    for part, inner in tensor.parts:
        if tensor.kind in ("sparse", "quantized"):
            _name(found, names, Located(f"{place.path or 'tensor'}.{part}", inner, role, buffer=True))


def _name(found: Found, names: dict[str, int], located: Located) -> None:
    base = located.name
    count = names.get(base, 0)
    name = base
    while name in names:
        count += 1
        name = f"{base}#{count + 1}"
    names[base] = count
    names.setdefault(name, 0)
    found.tensors.append(replace(located, name=name))


def _join(path: str, key: str) -> str:
    joined = f"{path}.{key}" if path else key
    return shorten(joined, MAX_NAME)


def _bare(value: object) -> object:
    return value.value if isinstance(value, Opaque) else value


def _simple(value: object) -> Json:
    if isinstance(value, (bool, int, float)) and abs(value) < 1e300:
        return value
    if isinstance(value, str):
        return shorten(value, 200)
    if isinstance(value, (list, tuple)) and 0 < len(value) <= 16:
        items = [_simple(item) for item in value if not isinstance(item, (list, tuple))]
        return items if len(items) == len(value) and None not in items else None
    return None
