"""An unpickler that can build values but cannot run what a stream wants run.

It follows the opcodes of Python's own unpickler (``pickle``, protocols 0 to 5) and takes these powers away:

- a global is looked up in an exact table (``allowed``); nothing else can be named, dotted names included;
- REDUCE calls only what the table says may be called, or a stand-in that checks its arguments (``allowed_calls``);
- NEWOBJ, OBJ and INST make empty instances of classes of the table; ``__init__`` never runs;
- BUILD sets the state of an object once, only on an instance that this stream made, through the ``__setstate__`` of its
  class and never one that was put on the instance; arrays and dtypes are checked first (``allowed_states``);
- items are added to lists, dictionaries and sets only, extension codes, persistent ids and outside buffers are refused;
- structures that compiled code walks without looking (trees) are checked at the end (``structures``).

joblib writes arrays as raw bytes into the stream; ``ArrayPlace`` stands for its wrapper and reads them.

Rule for editors: every new power needs a test that shows a hostile stream not getting it.
"""

from __future__ import annotations

import _compat_pickle
import collections
import functools
import pickle
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, cast

import numpy as np

from assay.errors import AssayError, BadFormat, LimitExceeded, MissingDependency, Refused
from assay.loaders.allowed import Role, canonical_module, resolve, table
from assay.loaders.allowed_calls import CLASSES, FUNCTIONS, checked_key, flat_item, refuse
from assay.loaders.allowed_states import ArrayPlace, PickleSource, set_state
from assay.loaders.frameworks import reason
from assay.loaders.structures import check_structures

FREE_MEMORY = 256 << 20
"""Bytes that calls and arrays may take together, beyond ``MAX_GROWTH`` times what was read of the stream."""
MAX_GROWTH = 64
MAX_ARRAY_DEPTH = 16
"""Nesting of arrays of objects directly in each other: freeing them recurses in compiled code."""

_Base: Any = pickle._Unpickler  # noqa: SLF001 - the unpickler written in Python: the only one whose opcodes can be replaced
_WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
_LISTS = (list, collections.deque)


class RestrictedUnpickler(_Base):  # type: ignore[misc] # typeshed does not describe the base
    """Reads one pickled object.

    Args:
        source: the stream, at its first opcode.
        names: what it may resolve of the table, as ``module.name``: what the audit saw it name. None leaves the table.
        extra: classes beyond the table that a person allowed, by ``module.name``: made empty and given state only.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Base.dispatch)

    def __init__(
        self,
        source: PickleSource,
        names: Collection[str] | None = None,
        extra: Mapping[str, type] | None = None,
    ) -> None:
        super().__init__(source)
        self._names = names
        self._extra = dict(extra or {})
        self.source = source
        self._roles: dict[int, tuple[object, Role]] = {}
        self._calls: dict[int, Callable[..., object]] = {}
        self._functions: set[int] = set()
        self._unbuilt: dict[int, object] = {}
        self._built: list[object] = []
        self._depths: dict[int, tuple[object, int]] = {}  # arrays of objects, kept alive so that ids stay theirs
        self._taken = 0

    def read_object(self) -> object:
        """The object, or the reason why not.

        Raises:
            Refused: the stream wants something outside the rules (code ``unsafe-pickle``).
            BadFormat: it is not a readable pickle.
            LimitExceeded: it is too large when inflated.
            MissingDependency: it needs a library that is not installed.
        """
        try:
            value = self.load()
            check_structures(self._built)
        except AssayError:
            raise
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever hostile bytes provoke in decoding or in a __setstate__
            raise BadFormat(f"the pickle cannot be read ({reason(error)})") from error
        return value

    # Names ------------------------------------------------------------------------------------------------------

    def find_class(self, module: str, name: str) -> object:
        """Look a pair up in the table.

        Raises:
            Refused: it is not there.
        """
        if self.proto < 3:
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        if self._names is not None and full not in self._names:
            raise Refused(
                f"the pickle names {full}, which the audit did not see", code="unsafe-pickle", **{"global": full}
            )
        if full in self._extra and "." not in name:
            return self._known(self._extra[full], Role.CONSTRUCT)
        pair = (canonical_module(module), name)
        found = self._find(pair)
        if not isinstance(found, type):
            self._functions.add(id(found))
        if found is None:
            raise Refused(
                f"the pickle names {module}.{name}, which is outside the allow-list",
                code="unsafe-pickle",
                **{"global": f"{module}.{name}"},
            )
        return found

    def _find(self, pair: tuple[str, str]) -> object | None:
        if pair == _WRAPPER:
            return self._known(ArrayPlace, Role.CONSTRUCT)
        special = _SPECIAL.get(pair)
        if special is None and pair[1].startswith("__pyx_unpickle_") and pair in table():
            special = "_compiled"
        if special is not None:
            marker = getattr(type(self), special)
            self._calls[id(marker)] = getattr(self, special)
            return marker  # type: ignore[no-any-return] # a function of this class
        if pair in FUNCTIONS:
            function = FUNCTIONS[pair]
            self._calls[id(function)] = function
            return function
        if pair in CLASSES:
            kind, call = CLASSES[pair]
            self._calls[id(kind)] = call
            return self._known(kind, Role.VALUE)
        role = table().get(pair)
        if role is None:
            return None
        try:
            value = resolve(*pair)
        except BadFormat as error:
            if isinstance(error.__cause__, ModuleNotFoundError) and _missing(error.__cause__, pair[0]):
                library = pair[0].partition(".")[0]
                raise MissingDependency(f"{library} is needed to load this pickle and is not installed") from error
            raise
        self._known(value, role)
        if role is Role.CALL:
            self._calls[id(value)] = cast("Callable[..., object]", value)
        return value

    def _known(self, value: object, role: Role) -> object:
        before = self._roles.get(id(value))
        if before is None or before[1] is Role.VALUE:
            self._roles[id(value)] = (value, role)
        return value

    def _role(self, value: object) -> Role | None:
        found = self._roles.get(id(value))
        return found[1] if found else None

    # Making things ----------------------------------------------------------------------------------------------

    def _made(self, value: object) -> object:
        self._unbuilt[id(value)] = value
        return value

    def _charge(self, value: object) -> None:
        """Keep a short stream from copying one long value over and over."""
        self._taken += sys.getsizeof(value)
        if self._taken > FREE_MEMORY and self._taken > MAX_GROWTH * self.source.tell():
            raise LimitExceeded(f"the pickle builds {self._taken:,} bytes out of {self.source.tell():,}")

    def _new(self, cls: object, args: Iterable[object] = ()) -> object:
        role = self._role(cls)
        if not isinstance(cls, type) or role not in (Role.CONSTRUCT, Role.CALL):
            if cls in (set, frozenset, collections.OrderedDict, object):
                return self._made(cast("Any", cls)())
            refuse(f"the pickle makes an instance of {_shown(cls)}")
        given = tuple(args)
        if given and not issubclass(cls, tuple):
            refuse(f"the pickle makes a {cls.__qualname__} with arguments")
        return self._made(cls.__new__(cls, *given))

    def _reconstructor(self, cls: object, base: object, state: object) -> object:
        """``copyreg._reconstructor``: how protocols 0 and 1 make empty instances."""
        if base is not object or state is not None:
            if isinstance(cls, type) and base in (dict, list, set) and issubclass(cls, cast("type", base)):
                instance = cast("Any", self._new(cls))
                if not state:
                    return instance
            refuse(f"the pickle rebuilds a {_shown(cls)} on {_shown(base)}")
        return self._new(cls)

    def _new_object(self, cls: object, *args: object) -> object:
        """``copyreg.__newobj__`` and the ``newObj`` of compiled scikit-learn modules."""
        return self._new(cls, args)

    def _compiled(self, cls: object, checksum: object, state: object = None) -> object:
        """``__pyx_unpickle_X``: an empty instance of a compiled class; versions differ in whether they have it."""
        numbers = isinstance(state, tuple) and all(type(item) in (int, float) for item in state)
        if not isinstance(checksum, int) or not (state is None or numbers):
            refuse(f"the pickle makes a compiled {_shown(cls)} from unexpected arguments")
        if state and not hasattr(cls, "__setstate_cython__") and self._role(cls) is Role.CALL:
            # Releases that have no such setter take the same numbers here.
            return self._made(cast("Any", cls)(*cast("tuple[float, ...]", state)))
        made = self._new(cls)
        if state:
            cast("Any", made).__setstate_cython__(state)  # typed assignments, one number each
        return made

    def _ufunc(self, module: object, name: object) -> object:
        """``numpy._core._ufunc_reconstruct``: the pair it names, looked up like any other."""
        if not isinstance(module, str) or not isinstance(name, str):
            refuse("the pickle names a ufunc by something that is no text")
        found = self._find((canonical_module(module), name))  # named by arguments: no name of the stream
        if found is None or isinstance(found, type):
            refuse(f"the pickle names the ufunc {module}.{name}"[:200])
        self._functions.add(id(found))
        return found

    def _partial(self, function: object) -> functools.partial[Any]:
        """``functools.partial`` of a function that is a value: it computes whatever its arguments are."""
        if isinstance(function, type) or self._role(function) is not Role.VALUE or not callable(function):
            refuse(f"the pickle wraps {_shown(function)} in a partial")
        return functools.partial(function)

    def _tree(self, features: object, classes: object, outputs: object) -> object:
        """``sklearn.tree._tree.Tree``: its constructor copies as many class counts as it is told there are."""
        fits = isinstance(classes, np.ndarray) and classes.ndim == 1 and classes.dtype == np.intp
        if not fits or type(features) is not int or outputs != len(cast("Any", classes)):
            refuse("the pickle builds a decision tree from unexpected arguments")
        tree = cast("Any", resolve("sklearn.tree._tree", "Tree"))
        self._known(tree, Role.CALL)
        return self._made(tree(features, classes, outputs))

    # Opcodes ----------------------------------------------------------------------------------------------------

    def load_reduce(self) -> None:
        """REDUCE: call what may be called."""
        args = self.stack.pop()
        function = self.stack[-1]
        call = self._calls.get(id(function))
        if call is None or not isinstance(args, tuple):
            refuse(f"the pickle calls {_shown(function)}")
        self.stack[-1] = self._made(call(*args))
        self._charge(self.stack[-1])

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        """NEWOBJ: an empty instance."""
        args = self.stack.pop()
        self.stack[-1] = self._new(self.stack[-1], args)

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """NEWOBJ_EX: the same, keyword arguments refused."""
        keywords, args = self.stack.pop(), self.stack.pop()
        if keywords:
            refuse("the pickle makes an instance with keyword arguments")
        self.stack[-1] = self._new(self.stack[-1], args)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, cls: object, args: list[object]) -> None:
        """OBJ and INST."""
        self.append(self._new(cls, args))

    def load_build(self) -> None:
        """BUILD: set the state of something this stream made, once."""
        state = self.stack.pop()
        target = self.stack[-1]
        if self._unbuilt.pop(id(target), self) is self:
            refuse(f"the pickle sets the state of {_shown(target)}")
        if isinstance(target, ArrayPlace):
            target.describe(state)
            self._end_frame()
            self.stack[-1] = target.read(
                self.source, lambda source: RestrictedUnpickler(source, self._names, self._extra).read_object()
            )
            return
        if isinstance(target, np.ndarray):
            self._check_nesting(target, state)
        set_state(target, state, named=self._functions, known=self._role(type(target)) is not None)
        self._built.append(target)
        self._charge(target)

    dispatch[pickle.BUILD[0]] = load_build

    def _check_nesting(self, target: object, state: object) -> None:
        """Arrays of objects are filled bottom up, and not too deep."""
        if not isinstance(state, tuple) or len(state) < 5 or not isinstance(state[4], list):
            return
        depth = 1
        for item in state[4]:
            if isinstance(item, np.ndarray):
                if id(item) in self._unbuilt:
                    refuse("the pickle puts an unfinished array into an array")
                depth = max(depth, 1 + self._depths.get(id(item), (None, 0))[1])
        if depth > MAX_ARRAY_DEPTH:
            refuse("the pickle nests arrays of objects too deeply")
        self._depths[id(target)] = (target, depth)

    def load_append(self) -> None:
        """APPEND."""
        value = self.stack.pop()
        target = self._list()
        target.append(flat_item(value) if isinstance(target, collections.deque) else value)

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        """APPENDS."""
        values = self.pop_mark()
        target = self._list()
        target.extend(map(flat_item, values) if isinstance(target, collections.deque) else values)

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_setitem(self) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        target = self._dict()
        target[checked_key(key)] = flat_item(value) if isinstance(target, collections.defaultdict) else value

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """SETITEMS."""
        items = self.pop_mark()
        target = self._dict()
        kept = flat_item if isinstance(target, collections.defaultdict) else _same
        for index in range(0, len(items) - 1, 2):
            target[checked_key(items[index])] = kept(items[index + 1])

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        """DICT: a dictionary from the marked items (protocol 0)."""
        items = self.pop_mark()
        self.append({checked_key(items[index]): items[index + 1] for index in range(0, len(items) - 1, 2)})

    dispatch[pickle.DICT[0]] = load_dict

    def load_additems(self) -> None:
        """ADDITEMS."""
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            refuse(f"the pickle adds items to {_shown(self.stack[-1])}")
        self.stack[-1].update(map(checked_key, items))

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        """FROZENSET."""
        items = self.pop_mark()
        self.append(frozenset(map(checked_key, items)))

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def load_bytearray8(self) -> None:
        """BYTEARRAY8, read before memory is taken for it."""
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def _forbidden(self) -> None:
        refuse("the pickle uses extension codes, persistent ids or outside buffers")

    for _code in (
        pickle.EXT1,
        pickle.EXT2,
        pickle.EXT4,
        pickle.PERSID,
        pickle.BINPERSID,
        pickle.NEXT_BUFFER,
        pickle.READONLY_BUFFER,
    ):
        dispatch[_code[0]] = _forbidden
    del _code

    def _list(self) -> Any:
        target = self.stack[-1]
        if not isinstance(target, _LISTS):
            refuse(f"the pickle appends to {_shown(target)}")
        return target

    def _dict(self) -> Any:
        target = self.stack[-1]
        if not isinstance(target, dict):
            refuse(f"the pickle sets items of {_shown(target)}")
        return target

    def _end_frame(self) -> None:
        """Raw array bytes lie in the file itself: joblib ends the frame before them."""
        frame = self._unframer.current_frame
        if frame is not None:
            if frame.read(1):
                raise BadFormat("array bytes begin inside a pickle frame")
            self._unframer.current_frame = None


_SPECIAL = {
    ("functools", "partial"): "_partial",
    ("copyreg", "_reconstructor"): "_reconstructor",
    ("copyreg", "__newobj__"): "_new_object",
    ("numpy._core", "_ufunc_reconstruct"): "_ufunc",
    ("sklearn.tree._tree", "Tree"): "_tree",
    ("sklearn.metrics._dist_metrics", "newObj"): "_new_object",
    ("sklearn.neighbors._kd_tree", "newObj"): "_new_object",
    ("sklearn.neighbors._ball_tree", "newObj"): "_new_object",
}
# Pairs whose stand-in needs to know what the stream named before: methods of the unpickler.


def _same(value: object) -> object:
    return value


def _shown(value: object) -> str:
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}".strip(".")[:120]
    return f"an instance of {type(value).__module__}.{type(value).__qualname__}"[:120]


def _missing(error: ModuleNotFoundError, module: str) -> bool:
    return error.name == module.partition(".")[0]
