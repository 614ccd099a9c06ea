"""The rebuild calls by which torch's pickles make tensors, read as ``TensorValue``.

Source of the argument lists: the ``_rebuild_*`` functions of ``torch._utils`` (torch 1.0 to 2.13). Arrays of numpy are
read here too, because torch keeps tensors of some devices as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from assay.containers.pickle.values import Call, Global
from assay.formats.pytorch.values import (
    Malformed,
    TensorValue,
    checked_count,
    checked_layout,
    checked_shape,
    dtype_of,
    shorten,
    storage_of,
)

_MAX_WRAPPERS = 8
# Rebuild calls that may wrap each other (parameter of subclass of tensor).


def tensor_of(value: object) -> TensorValue | None:
    """The tensor a value is, or None when it is something else.

    Raises:
        Malformed: it calls a rebuild function with arguments torch would not write.
    """
    return _tensor(value, _MAX_WRAPPERS)


def _tensor(value: object, depth: int) -> TensorValue | None:
    if not isinstance(value, Call) or not isinstance(value.function, Global):
        return None
    function = value.function
    if function.module == "torch._tensor" and function.name == "_rebuild_from_type_v2":
        return _subclass(value, depth)
    if function.module in ("torch.nn.parameter", "torch.nn") and function.name in ("Parameter", "Buffer"):
        return _parameter(value, depth)
    if function.module != "torch._utils":
        return None
    rebuild = _REBUILD.get(function.name)
    if rebuild is None:
        return None
    if depth <= 0:
        raise Malformed("tensors wrap each other too deeply")
    return rebuild(value, depth - 1)


def _dense(call: Call, _depth: int) -> TensorValue:
    arguments = _arguments(call, 4)
    storage = storage_of(arguments[0])
    if storage is None:
        raise Malformed("a tensor is rebuilt from something that is not a storage")
    dtype = storage.dtype
    extra = arguments[6] if len(arguments) > 6 else None
    if isinstance(call.function, Global) and call.function.name == "_rebuild_tensor_v3":
        stated = dtype_of(extra)
        if stated is None:
            raise Malformed("a tensor states an unknown dtype")
        dtype = stated
        extra = arguments[7] if len(arguments) > 7 else None
    flags = extra.items() if isinstance(extra, dict) else ()
    lazy = tuple(shorten(key, 20) for key, on in flags if on is True and isinstance(key, str))[:4]
    shape, strides = checked_layout(arguments[2], arguments[3])
    offset = storage.start + checked_count(arguments[1], "storage offset")
    return TensorValue(storage, dtype, shape, strides, offset, lazy=lazy)


def _parameter(call: Call, depth: int) -> TensorValue:
    arguments = _arguments(call, 1)
    inner = _tensor(arguments[0], depth)
    if inner is None:
        raise Malformed("a parameter is rebuilt from something that is not a tensor")
    return replace(inner, kind="parameter") if inner.kind == "tensor" else inner


def _subclass(call: Call, depth: int) -> TensorValue | None:
    arguments = _arguments(call, 3)
    inner_arguments = arguments[2]
    if depth <= 0 or not isinstance(inner_arguments, tuple):
        raise Malformed("a tensor subclass is rebuilt from other arguments than torch writes")
    return _tensor(Call(arguments[0], inner_arguments, {}, call.offset), depth - 1)


def _quantized(call: Call, depth: int) -> TensorValue:
    arguments = _arguments(call, 5)
    dense = _dense(Call(call.function, tuple(arguments[:4]), {}, call.offset), depth)
    scheme = arguments[4]
    parts: list[tuple[str, TensorValue]] = []
    if isinstance(scheme, tuple) and len(scheme) == 4:
        for role, value in (("scales", scheme[1]), ("zero_points", scheme[2])):
            part = _tensor(value, depth)
            if part is not None:
                parts.append((role, part))
    return replace(dense, kind="quantized", parts=tuple(parts))


def _sparse(call: Call, depth: int) -> TensorValue:
    arguments = _arguments(call, 2)
    data = arguments[1]
    if not isinstance(data, tuple) or len(data) < 3:
        raise Malformed("a sparse tensor is rebuilt from other arguments than torch writes")
    tensors = [_tensor(item, depth) for item in data[:3]]
    compressed = tensors[2] is not None
    roles = ("compressed_indices", "plain_indices", "values") if compressed else ("indices", "values")
    parts = [(role, tensor) for role, tensor in zip(roles, tensors, strict=False) if tensor is not None]
    if len(parts) != len(roles) or (compressed and len(data) < 4):
        raise Malformed("a sparse tensor lacks its indices or its values")
    shape = checked_shape(data[3] if compressed else data[2])
    return TensorValue(None, parts[-1][1].dtype, shape, kind="sparse", parts=tuple(parts))


def _meta(call: Call, _depth: int) -> TensorValue:
    arguments = _arguments(call, 3)
    shape, strides = checked_layout(arguments[1], arguments[2])
    return TensorValue(None, dtype_of(arguments[0]) or "unknown", shape, strides, kind="meta")


def _wrapper(call: Call, _depth: int) -> TensorValue:
    arguments = _arguments(call, 4)
    shape, strides = checked_layout(arguments[2], arguments[3])
    dtype = dtype_of(arguments[1]) or "unknown"
    return TensorValue(None, dtype, shape, strides, kind="meta")


def _from_array(call: Call, depth: int) -> TensorValue | None:
    arguments = _arguments(call, 2)
    inner = _tensor(arguments[0], depth)
    if inner is not None:
        return inner
    array = array_of(arguments[0])
    return None if array is None else replace(array, dtype=dtype_of(arguments[1]) or array.dtype)


def _nested(call: Call, depth: int) -> TensorValue | None:
    inner = _tensor(_arguments(call, 1)[0], depth)
    return None if inner is None else replace(inner, kind="nested")


_REBUILD: dict[str, Callable[[Call, int], TensorValue | None]] = {
    "_rebuild_tensor": _dense,
    "_rebuild_tensor_v2": _dense,
    "_rebuild_tensor_v3": _dense,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_qtensor": _quantized,
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_sparse_csr_tensor": _sparse,
    "_rebuild_meta_tensor_no_storage": _meta,
    "_rebuild_wrapper_subclass": _wrapper,
    "_rebuild_device_tensor_from_numpy": _from_array,
    "_rebuild_device_tensor_from_cpu_tensor": _from_array,
    "_rebuild_xla_tensor": _from_array,
    "_rebuild_nested_tensor": _nested,
}


def array_of(value: object) -> TensorValue | None:
    """The numpy array a value is (its numbers lie inside the pickle), or None when it is something else."""
    if not isinstance(value, Call) or not isinstance(value.function, Global) or value.function.name != "_reconstruct":
        return None
    state = value.state
    if not value.function.module.startswith("numpy") or not isinstance(state, tuple) or len(state) != 5:
        return None
    try:
        shape = checked_shape(state[1])
    except Malformed:
        return None
    return TensorValue(None, numpy_dtype(state[2]), shape, kind="numpy")


def numpy_dtype(value: object) -> str:
    """Name of the dtype that a pickled ``numpy.dtype`` is: ``float64`` for ``f8``, else numpy's own code."""
    code = value.args[0] if isinstance(value, Call) and value.args else None
    if not isinstance(code, str):
        return "object"
    kind, width = code[:1], code[1:]
    names = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
    if kind == "b" and width == "1":
        return "bool"
    if kind in names and width.isascii() and width.isdigit() and len(width) < 3:
        return f"{names[kind]}{int(width) * 8}"
    return {"O": "object", "U": "string", "S": "bytes"}.get(kind, shorten(code, 40))


def _arguments(call: Call, least: int) -> tuple[object, ...]:
    arguments = tuple(call.args)
    if len(arguments) < least:
        function = call.function.name if isinstance(call.function, Global) else "a rebuild function"
        raise Malformed(f"{function[:60]} is called with {len(arguments)} arguments, expected at least {least}")
    return arguments
