"""Between live values and the values of a golden example: numpy's and torch's arrays, pandas' tables, plain Python.

Frameworks are looked at through modules that are imported already; rebuilding a tensor or a table imports its library.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.compare.outputs import as_numpy
from assay.errors import InvalidInput
from assay.loaders.frameworks import imported, is_instance, need
from assay.spec.example import MAX_DEPTH, SIZES, STRING, Array, Column, Items, Named, Plain, Table, Value

_PLAIN = (bool, int, float, str, type(None))
_MAX_LIST = 1 << 20
_REBUILD = "rebuild the inputs of an example"


def encode(value: object, *, what: str = "the example", depth: int = 0) -> Value:
    """A live value as one of an example.

    Args:
        value: arrays, tensors, tables, numbers, text, and lists, tuples and dictionaries of them.
        what: how messages call it.
        depth: containers around it.

    Raises:
        InvalidInput: it holds something that has no exact form (code ``example-value``).
    """
    if depth > MAX_DEPTH:
        raise _unfit(what, "containers that are too deep, or hold themselves")
    if isinstance(value, np.generic):
        return encode(np.asarray(value), what=what, depth=depth)
    if isinstance(value, _PLAIN):
        return Plain(value)
    if isinstance(value, np.ndarray):
        return _array(value, what)
    if is_instance(value, "torch.Tensor", "torch._tensor.Tensor"):
        return _tensor(value, what)
    if is_instance(value, "tensorflow.python.framework.tensor.Tensor", "pandas.core.series.Series", "pandas.Series"):
        return encode(np.asarray(value), what=what, depth=depth)
    if is_instance(value, "pandas.core.frame.DataFrame", "pandas.DataFrame"):
        return _table(value, what)
    if hasattr(value, "toarray") and is_instance(value, "scipy.sparse._base._spbase"):
        return _array(value.toarray(), what)
    if isinstance(value, Mapping):
        return Named(
            {_key(key, what): encode(one, what=f"{what}[{key!r}]", depth=depth + 1) for key, one in value.items()}
        )
    if isinstance(value, (list, tuple)):
        if len(value) > _MAX_LIST:
            raise _unfit(what, f"a list of {len(value):,} values")
        if isinstance(value, list) and _is_plain(value):
            return Plain(value)
        members = tuple(encode(one, what=f"{what}[{at}]", depth=depth + 1) for at, one in enumerate(value))
        return Items(members, pair=isinstance(value, tuple))
    raise _unfit(what, f"a {type(value).__module__}.{type(value).__qualname__}")


def answers(value: object, *, what: str) -> Value:
    """What a call gave, as values of an example; members of a framework's own record that are no tensors are left out.

    Raises:
        InvalidInput: nothing of it has an exact form (code ``example-value``).
    """
    if is_instance(value, "transformers.utils.generic.ModelOutput"):
        kept = {}
        for name, one in value.items():  # type: ignore[attr-defined] # a record of transformers is a mapping
            try:
                kept[str(name)] = encode(one, what=f"{what}[{name!r}]")
            except InvalidInput:  # caches and the like
                continue
        if kept:
            return Named(kept)
    return encode(value, what=what)


def decode(value: Value) -> Any:
    """The live value."""
    if isinstance(value, Array):
        return _live_tensor(value) if value.kind == "torch" else as_numpy(value)
    if isinstance(value, Plain):
        return value.value
    if isinstance(value, Table):
        return _live_table(value)
    if isinstance(value, Named):
        return {name: decode(one) for name, one in value.values.items()}
    members = [decode(one) for one in value.values]
    return tuple(members) if value.pair else members


def modules_of(value: Value) -> tuple[str, ...]:
    """Top-level packages that are needed to rebuild a value."""
    if isinstance(value, Table):
        return ("pandas",)
    if isinstance(value, Array):
        return ("torch",) if value.kind == "torch" else ()
    if isinstance(value, Plain):
        return ()
    members = value.values.values() if isinstance(value, Named) else value.values
    return tuple(sorted({name for member in members for name in modules_of(member)}))


def _array(array: np.ndarray[Any, Any], what: str, kind: str = "numpy") -> Array:
    if array.dtype.kind in "UTO":
        texts = array.reshape(-1).tolist()
        if not all(text is None or isinstance(text, str) for text in texts):
            raise _unfit(what, "an array of objects that are not text")
        return Array(STRING, array.shape, tuple(texts))
    name = array.dtype.name
    if name not in SIZES and array.dtype.kind not in "mM":
        raise _unfit(what, f"an array of {name}")
    if sys.byteorder == "big" or array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return Array(name, array.shape, np.ascontiguousarray(array).tobytes(), kind)


def _tensor(tensor: Any, what: str) -> Array:
    torch: Any = imported("torch")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise _unfit(what, "a sparse or quantised tensor")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if plain.dtype == torch.bfloat16:
        raw = plain.view(torch.int16).numpy()
        return Array("bfloat16", tuple(plain.shape), raw.astype("<i2").tobytes(), "torch")
    try:
        return _array(plain.numpy(), what, "torch")
    except TypeError as error:
        raise _unfit(what, f"a tensor of {plain.dtype}") from error


def _live_tensor(value: Array) -> Any:
    torch = need("torch", extra="torch", what=_REBUILD)
    if value.dtype == "bfloat16":
        return torch.from_numpy(as_numpy(value).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(as_numpy(value).copy())


def _table(frame: Any, what: str) -> Table:
    columns = []
    for at, name in enumerate(frame.columns):
        if not isinstance(name, (str, int)):
            raise _unfit(what, f"a column called {name!r:.60}")
        series = frame.iloc[:, at]
        dtype, inside = str(series.dtype), f"{what}[{name!r}]"
        if dtype == "category":
            codes = _array(series.cat.codes.to_numpy().astype("int64"), inside)
            categories = encode(series.cat.categories.to_numpy(), what=inside)
            columns.append(Column(name, dtype, codes, categories, bool(series.cat.ordered)))
        elif series.dtype.kind in "biufcmM" and isinstance(series.dtype, np.dtype):
            columns.append(Column(name, dtype, _array(series.to_numpy(), inside)))
        else:
            columns.append(Column(name, dtype, _cells(series, inside)))
    return Table(tuple(columns))


def _cells(series: Any, what: str) -> Plain:
    pandas: Any = imported("pandas")
    cells = [
        None if one is pandas.NA else one.item() if isinstance(one, np.generic) else one for one in series.tolist()
    ]
    if not _is_plain(cells):
        raise _unfit(what, f"cells of {series.dtype} that are not numbers, text or truth values")
    return Plain(cells)


def _live_table(table: Table) -> Any:
    pandas = need("pandas", what=_REBUILD)
    series = []
    for column in table.columns:
        if column.categories is not None:
            kind = pandas.CategoricalDtype(decode(column.categories), ordered=column.ordered)
            cells = pandas.Categorical.from_codes(decode(column.values), dtype=kind)
            series.append(pandas.Series(cells))
        else:
            series.append(pandas.Series(decode(column.values), dtype=column.dtype))
    frame = pandas.concat(series, axis=1) if series else pandas.DataFrame()
    frame.columns = [column.name for column in table.columns]
    return frame


def _is_plain(values: list[Any], depth: int = 0) -> bool:
    return depth < MAX_DEPTH and all(
        isinstance(one, _PLAIN) or (isinstance(one, list) and _is_plain(one, depth + 1)) for one in values
    )


def _key(key: object, what: str) -> str:
    if not isinstance(key, str):
        raise _unfit(what, f"the name {key!r:.60}, which is no text")
    return key


def _unfit(what: str, found: str) -> InvalidInput:
    return InvalidInput(
        f"{what} holds {found}, which cannot be kept exactly",
        code="example-value",
        hint="numpy arrays, torch tensors, pandas data frames, numbers, text, and lists and dictionaries of them can",
    )
