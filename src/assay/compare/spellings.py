"""Classes, element types, scalars and bytes of pickles in one form, whatever library or protocol wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from assay.containers.npy import dtype_from_numpy
from assay.containers.pickle.values import Call, Global
from assay.errors import BadFormat

_MOVED = {
    "numpy.core": "numpy._core",
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "sklearn.externals.joblib": "joblib",
}
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_HAS_OBJECT = 0x01  # NPY_ITEM_REFCOUNT in the flags of a dtype's state


def class_name(name: Global) -> str:
    """The dotted name of a class, under the modules where today's libraries keep it, without torch's own numbers."""
    module = _MANGLED.sub("", name.module)
    for old, new in _MOVED.items():
        if module == old or module.startswith(f"{old}."):
            module = new + module[len(old) :]
    return f"{module}.{name.name}"


def dtype_text(value: Any) -> str | None:
    """The short form (``<f8``) of a dtype in a graph; None for objects and records."""
    if type(value) is Global:
        return dtype_text(Call(value, (value.name.rstrip("_"),)))
    if type(value) is not Call or not value.args or not isinstance(value.args[0], str):
        return None
    code = value.args[0]
    state = value.state if isinstance(value.state, tuple) else ()
    order = state[1] if len(state) > 1 and state[1] in ("<", ">", "|", "=") else "|"
    text = code if code[:1] in "<>|=" else f"{order}{code}"
    if "V" in code and len(state) > 7:  # a record: its size and whether it holds objects stand in the state
        size, flags = state[5], state[7]
        return f"|V{size}" if isinstance(size, int) and isinstance(flags, int) and not flags & _HAS_OBJECT else None
    try:
        found = dtype_from_numpy(text)
    except BadFormat:
        return None
    return text if found.itemsize is not None and found.name != "object" else None


def fields_of(value: Any) -> str:
    """Names and types of a record's fields; nothing for other types."""
    state = value.state if type(value) is Call and isinstance(value.state, tuple) else ()
    names, fields = state[3:5] if len(state) > 7 else (None, None)
    if not isinstance(names, tuple) or not isinstance(fields, dict):
        return ""
    kinds = [fields.get(name) for name in names]
    return str(
        [
            (name, dtype_text(kind[0]) if isinstance(kind, tuple) and kind else None)
            for name, kind in zip(names, kinds, strict=True)
        ]
    )


def without_padding(raw: bytes, dtype: Any) -> bytes:
    """Records without the bytes between their fields, in which whatever was in memory is saved."""
    state = dtype.state if type(dtype) is Call and isinstance(dtype.state, tuple) else ()
    names, fields = state[3:5] if len(state) > 7 else (None, None)
    if not isinstance(names, tuple) or not isinstance(fields, dict):
        return raw
    try:
        record = np.dtype(
            {
                "names": list(names),
                "formats": [dtype_text(fields[name][0]) for name in names],
                "offsets": [fields[name][1] for name in names],
                "itemsize": state[5],
            }
        )
        values = np.frombuffer(raw, record)
        return b"|".join(values[name].tobytes() for name in names)
    except (TypeError, ValueError, KeyError, IndexError):
        return raw


def extent_of(state: Mapping[Any, Any]) -> int | None:
    """Bytes of the elements that joblib puts behind a wrapper with this state; None for objects."""
    text = dtype_text(state.get("dtype"))
    shape = state.get("shape")
    sizes = [size_of(size) for size in shape] if isinstance(shape, (tuple, list)) else [size_of(shape)]
    if text is None or any(size is None for size in sizes):
        return None
    return prod(size for size in sizes if size is not None) * (dtype_from_numpy(text).itemsize or 0)


def size_of(value: Any) -> int | None:
    """A length, which may be a NumPy scalar; None when it is none."""
    if type(value) is Call and type(value.function) is Global and value.function.name == "scalar":
        made = scalar(value)
        value = made
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60 else None


def scalar(call: Call) -> Any:
    """The value of a NumPy scalar; None when it is none that is understood."""
    text, data = dtype_text(call.args[0]), call.args[1]
    raw = data if isinstance(data, bytes) else bytes_of(data) if type(data) is Call else None
    if raw is None and isinstance(data, str):
        raw = data.encode("latin-1", "replace")
    if text is None or raw is None:
        return None
    try:
        values = np.frombuffer(raw, np.dtype(text)).tolist()
    except (TypeError, ValueError):
        return None
    return values[0] if len(values) == 1 else None


def bytes_of(call: Call) -> bytes | None:
    """Bytes as the protocols before 3 spell them, and bytearrays."""
    if type(call.function) is not Global:
        return None
    if not call.args:
        return b"" if class_name(call.function) in {"builtins.bytes", "builtins.bytearray"} else None
    first = call.args[0]
    if class_name(call.function) == "_codecs.encode":
        codec = call.args[1] if len(call.args) > 1 else "utf-8"
        if isinstance(first, str) and codec in {"latin1", "latin-1"}:
            return first.encode("latin-1", "replace")
        return None
    if isinstance(first, bytes) and len(call.args) == 1:
        return bytes(first)
    if isinstance(first, str) and len(call.args) == 2 and call.args[1] in {"latin-1", "latin1"}:
        return first.encode("latin-1", "replace")
    return bytes_of(first) if type(first) is Call and len(call.args) == 1 else None
