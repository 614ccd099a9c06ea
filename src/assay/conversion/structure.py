"""What a checkpoint holds beside its tensors, as JSON that can be turned back: numbers, text, lists, mappings.

Concept: the object graph of ``torch.save`` is read symbolically, so nothing runs. Values that JSON has no form of are
written as objects with one key that begins with ``$`` (``{"$tensor": NAME}``, ``{"$tuple": [...]}``). What has no
harmless form (objects of foreign classes, calls) is listed as lost, never left out silently.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field

import numpy as np

from assay.containers.pickle.values import Call, Global, Opaque, Symbol, plain
from assay.formats.pytorch.graph import attributes_of, key_text, mapping_of
from assay.formats.pytorch.rebuild import array_of, numpy_dtype, tensor_of
from assay.formats.pytorch.state import MAX_NAME
from assay.formats.pytorch.values import Malformed, class_of, dtype_of, shorten
from assay.ports.converters import Dropped
from assay.spec.json import Json

MAX_VALUES = 500_000
MAX_DEPTH = 64
MAX_BYTES = 1 << 20
"""Bytes of one string of bytes, or of one array, that are kept as JSON."""
MAX_LOST = 200
"""Places listed of what cannot be kept; one more says how many were left out."""

_HARMLESS = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.Counter",
        "builtins.dict",
        "builtins.list",
        "builtins.int",
        "builtins.float",
        "builtins.set",
        "builtins.frozenset",
        "builtins.bytearray",
        "builtins.complex",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        "torch.Size",
        "torch.device",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.nn.parameter.Buffer",
        "torch.nn.Parameter",
        "torch.nn.Buffer",
        "torch._tensor._rebuild_from_type_v2",
    }
)
_HARMLESS_MODULES = ("torch._utils", "numpy.core.multiarray", "numpy._core.multiarray")


@dataclass(slots=True)
class Structure:
    """A saved object without the numbers of its tensors.

    Args:
        value: the JSON.
        flat: whether it is nothing but a mapping of names to tensors, so that the JSON says nothing more.
        lost: what has no form in it.
        holders: paths of the mappings that hold tensors directly.
        module_metadata: versions of the modules as ``state_dict`` attaches them, if there were any.
    """

    value: Json = None
    flat: bool = False
    lost: list[Dropped] = field(default_factory=list)
    holders: set[str] = field(default_factory=set)
    module_metadata: Json = None


def read_structure(root: object, globals_: tuple[Global, ...]) -> Structure:
    """The structure of a saved object.

    Args:
        root: the symbolic object.
        globals_: everything its pickle names: what is named and is not in the object was called all the same.
    """
    walk = _Walk()
    walk.out.value = walk.write(root, "", 0)
    pairs = mapping_of(root)
    walk.out.flat = (
        pairs is not None and bool(pairs) and all(isinstance(key, str) and _is_tensor(value) for key, value in pairs)
    )
    for name in dict.fromkeys(str(item) for item in globals_):
        if name not in walk.met and not _structural(name):
            walk.lose("", f"the pickle names {shorten(name, 200)}")
    if walk.more:
        walk.out.lost.append(Dropped("", f"{walk.more:,} more of this kind"))
    return walk.out


def _structural(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name in _HARMLESS or module in _HARMLESS_MODULES:
        return True
    return module in ("torch", "torch.storage") and (
        attribute.endswith("Storage") or dtype_of(Global(module, attribute)) is not None
    )


def _is_tensor(value: object) -> bool:
    try:
        return tensor_of(value) is not None
    except Malformed:
        return False


class _Walk:
    """One pass over the object."""

    def __init__(self) -> None:
        self.out = Structure()
        self.met: set[str] = set()
        self.more = 0
        self._left = MAX_VALUES
        self._above: set[int] = set()

    def lose(self, path: str, what: str) -> Json:
        """Note what cannot be kept; the JSON that stands for it."""
        if len(self.out.lost) < MAX_LOST:
            self.out.lost.append(Dropped(path or "the object", what))
        else:
            self.more += 1
        return {"$dropped": what}

    def write(self, value: object, path: str, depth: int) -> Json:
        self._left -= 1
        if self._left < 0:
            return self.lose(path, "more values than are kept") if self._left == -1 else None
        if value is None or isinstance(value, (bool, str)):
            return value if not isinstance(value, str) or _valid(value) else self.lose(path, "text that is not Unicode")
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": str(value)}
        if isinstance(value, (bytes, bytearray)):
            return self._bytes(bytes(value), path)
        if depth >= MAX_DEPTH or id(value) in self._above:
            return self.lose(path, "an object inside itself" if depth < MAX_DEPTH else "nesting that is too deep")
        self._above.add(id(value))
        try:
            return self._compound(value, path, depth + 1)
        finally:
            self._above.discard(id(value))

    def _compound(self, value: object, path: str, depth: int) -> Json:
        try:
            if tensor_of(value) is not None:
                return {"$tensor": path or "tensor"}
        except Malformed as error:
            return self.lose(path, str(error))
        pairs = mapping_of(value)
        if pairs is not None:
            return self._mapping(value, pairs, path, depth)
        if isinstance(value, list):
            return self._items(value, path, depth)
        if isinstance(value, tuple):
            return {"$tuple": self._items(value, path, depth)}
        if isinstance(value, (set, frozenset)):
            members = [one.value if isinstance(one, Opaque) else one for one in value]
            return {"$set": self._items(members, path, depth)}
        if isinstance(value, Global):
            self.met.add(str(value))
            name = dtype_of(value)
            return {"$dtype": name} if name else self.lose(path, f"{shorten(str(value), 200)}, which is code")
        if isinstance(value, Call) and isinstance(value.function, Global):
            return self._call(value, path, depth)
        return self.lose(path, f"a {type(value).__name__.lower()} value")

    def _items(self, values: object, path: str, depth: int) -> list[Json]:
        assert isinstance(values, (list, tuple))
        return [self.write(item, _join(path, str(index)), depth) for index, item in enumerate(values)]

    def _mapping(self, value: object, pairs: list[tuple[object, object]], path: str, depth: int) -> Json:
        attributes = self._attributes(value, path, depth) if isinstance(value, Call) else {}
        if any(_is_tensor(item) for _, item in pairs):
            self.out.holders.add(path)
        plainly = all(isinstance(key, str) and not key.startswith("$") and _valid(key) for key, _ in pairs)
        if plainly and not attributes:
            return {str(key): self.write(item, _join(path, key_text(key)), depth) for key, item in pairs}
        written: list[Json] = []
        for key, item in pairs:
            at = _join(path, key_text(key))
            written.append([self.write(plain(key), f"{at} (its key)", depth), self.write(item, at, depth)])
        return {"$pairs": written, **({"$attributes": attributes} if attributes else {})}

    def _attributes(self, call: Call, path: str, depth: int) -> dict[str, Json]:
        """What hangs on a mapping beside its items: of state dicts the versions of modules."""
        if isinstance(call.function, Global):
            self.met.add(str(call.function))
        if call.items or call.kwargs or call.earlier_states:
            self.lose(path, "more than a mapping has")
        found = attributes_of(call)
        if call.state is not None and not found and call.state != {}:
            self.lose(path, "the state of a mapping")
        attributes = {key_text(key): self.write(item, _join(path, key_text(key)), depth) for key, item in found.items()}
        if not path and set(attributes) == {"_metadata"}:
            self.out.module_metadata = attributes["_metadata"]
        return attributes

    def _call(self, call: Call, path: str, depth: int) -> Json:
        name = str(call.function)
        self.met.add(name)
        bare = not (call.items or call.entries or call.kwargs or call.earlier_states)
        first = call.args[0] if call.args else None
        if bare and call.state is None:
            if name == "torch.Size" and isinstance(first, (tuple, list)):
                return self._items(first, path, depth)
            if name == "torch.device" and all(isinstance(part, (str, int)) for part in call.args):
                return {"$device": ":".join(str(part) for part in call.args)}
            if name in ("builtins.set", "builtins.frozenset") and isinstance(first, (list, tuple, set)):
                return {"$set": self._items(list(first), path, depth)}
            if name.startswith("pathlib.") and all(isinstance(part, str) for part in call.args):
                return {"$path": "/".join(str(part) for part in call.args).replace("//", "/")}
            data = _encoded(call)
            if data is not None:
                return self._bytes(data, path)
            if name.endswith("multiarray.scalar") and len(call.args) == 2:
                return self._numbers(call.args[0], call.args[1], (), path)
        state = attributes_of(call)
        if bare and name in ("argparse.Namespace", "types.SimpleNamespace"):
            return {
                "$namespace": {
                    key_text(key): self.write(v, _join(path, key_text(key)), depth) for key, v in state.items()
                }
            }
        array = array_of(call)
        if array is not None and isinstance(call.state, tuple) and not call.state[3]:
            return self._numbers(call.state[2], call.state[4], array.shape, path)
        return self.lose(path, f"an object of {shorten(class_of(call), 200)}")

    def _numbers(self, dtype: object, data: object, shape: tuple[int, ...], path: str) -> Json:
        """A scalar or an array of numpy."""
        name = numpy_dtype(dtype)
        raw = bytes(data) if isinstance(data, bytes) else _encoded(data)
        try:
            kind = np.dtype(name)
        except TypeError:
            kind = np.dtype(object)
        if kind.kind not in "biuf" or raw is None or len(raw) > MAX_BYTES:
            return self.lose(path, f"a numpy value of {name}{list(shape)}")
        state = dtype.state if isinstance(dtype, Symbol) else None
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        array = np.frombuffer(raw, kind.newbyteorder(">" if order == ">" else "<"))
        if shape == () and array.size == 1:
            return {"$scalar": name, "value": self.write(array[0].item(), path, 0)}
        if array.size != math.prod(shape):
            return self.lose(path, f"a numpy value of {name}{list(shape)} of another size")
        little = array.astype(kind.newbyteorder("<")).tobytes()
        return {"$array": name, "shape": list(shape), "data": base64.b64encode(little).decode()}

    def _bytes(self, data: bytes, path: str) -> Json:
        if len(data) > MAX_BYTES:
            return self.lose(path, f"{len(data):,} bytes")
        return {"$bytes": base64.b64encode(data).decode()}


def _encoded(value: object) -> bytes | None:
    """Bytes as old protocols write them: text that is encoded as latin-1."""
    if not isinstance(value, Call) or not value.calls("_codecs.encode") or len(value.args) != 2:
        return None
    text, codec = value.args
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        return None
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _join(path: str, key: str) -> str:
    return shorten(f"{path}.{key}" if path else key, MAX_NAME)
