"""The program document of a ``torch.export`` archive: graph signature, symbolic sizes, operators, modules.

Source: ``torch._export.serde.schema``. Unions are objects with one key (``{"as_tensor": {"name": "x"}}``). Fields that
are missing or of another type are passed over; only a document without a graph is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assay.formats.pytorch.values import MAX_ELEMENTS, MAX_RANK, Malformed, checked_layout
from assay.spec.description import Component, Port
from assay.spec.json import Json

SCALAR_TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""``ScalarType`` of the schema to dtype name."""

_MAX_PORTS = 1_000
_MAX_COMPONENTS = 10_000
_SYMBOL = re.compile(r"Symbol\('(\w{1,60})'[^)]{0,100}\)")
_INTEGER = re.compile(r"Integer\((-?\d{1,20})\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a program document says; fields as in ``Description``.

    Args:
        parameters, buffers: names of the weights the graph takes.
        operators: how often each operator is called.
        schema_version: ``major.minor``.
        torch_version: version that wrote it, where stated (torch 2.5 and later).
    """

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    components: tuple[Component, ...] = ()
    architecture: str | None = None
    schema_version: str | None = None
    torch_version: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)


def read_program(document: Json) -> Program:
    """Read a program document.

    Raises:
        Malformed: it holds no graph.
    """
    module = _object(document, "graph_module")
    graph = _object(module, "graph")
    if not graph:
        raise Malformed("the program holds no graph")
    signature = _object(module, "signature")
    parameters, buffers, inputs = _inputs(graph, signature)
    nodes = _list(graph, "nodes")
    classes = _classes(nodes)
    operators = Counter(str(_get(node, "target"))[:200] for node in nodes)
    schema = _object(document, "schema_version")
    version = _get(document, "torch_version")
    metadata: dict[str, Json] = {}
    opsets = {key[:60]: value for key, value in _object(document, "opset_version").items() if isinstance(value, int)}
    if opsets:
        metadata["opsets"] = opsets
    ranges = _ranges(_object(document, "range_constraints"))
    if ranges:
        metadata["symbols"] = ranges
    dialects = [item[:60] for item in _list(document, "verifiers") if isinstance(item, str)]
    if dialects:
        metadata["dialects"] = dialects[:10]
    metadata["nodes"] = len(nodes)
    architecture = classes.pop("", "").rpartition(".")[2] or None
    return Program(
        inputs=inputs,
        outputs=_outputs(graph, signature),
        parameters=parameters,
        buffers=buffers,
        operators=operators,
        components=tuple(Component(name, kind) for name, kind in classes.items()),
        architecture=architecture,
        schema_version=f"{schema['major']}.{schema['minor']}" if {"major", "minor"} <= schema.keys() else None,
        torch_version=version[:60] if isinstance(version, str) else None,
        metadata=metadata,
    )


def tensor_meta(meta: Json) -> tuple[str, tuple[int, ...], tuple[int, ...] | None, int]:
    """Dtype, shape, strides (None for C order) and storage offset of a ``TensorMeta``.

    Raises:
        Malformed: sizes are symbolic, negative or not plausible, or the dtype is unknown.
    """
    dtype = SCALAR_TYPES.get(_integer(_get(meta, "dtype")))
    if dtype is None:
        raise Malformed("a tensor states an unknown dtype")
    shape = tuple(_size(item) for item in _list(meta, "sizes"))
    strides = tuple(_size(item) for item in _list(meta, "strides"))
    offset = _size(_get(meta, "storage_offset"))
    return dtype, *checked_layout(shape, strides), offset


def _inputs(graph: Json, signature: Json) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Port, ...]]:
    parameters: list[str] = []
    buffers: list[str] = []
    ports: list[Port] = []
    for spec in _list(signature, "input_specs"):
        parameter = _get(_get(spec, "parameter"), "parameter_name")
        buffer = _get(_get(spec, "buffer"), "buffer_name")
        if isinstance(parameter, str):
            parameters.append(parameter)
        elif isinstance(buffer, str):
            buffers.append(buffer)
        elif len(ports) < _MAX_PORTS:
            ports.extend(_ports(graph, _get(_get(spec, "user_input"), "arg")))
    return tuple(parameters), tuple(buffers), tuple(ports)


def _outputs(graph: Json, signature: Json) -> tuple[Port, ...]:
    ports: list[Port] = []
    for spec in _list(signature, "output_specs"):
        if len(ports) < _MAX_PORTS:
            ports.extend(_ports(graph, _get(_get(spec, "user_output"), "arg")))
    return tuple(ports)


def _ports(graph: Json, argument: Json) -> Iterator[Port]:
    """The port an argument of the signature is; constants (``as_int``) are none."""
    name = _get(_get(argument, "as_tensor"), "name")
    if isinstance(name, str):
        meta = _get(_object(graph, "tensor_values"), name)
        dtype = SCALAR_TYPES.get(_integer(_get(meta, "dtype")), "unknown")
        sizes = _list(meta, "sizes")
        yield Port(name[:200], dtype, tuple(_dimension(size) for size in sizes[:MAX_RANK]))
        return
    for kind, dtype in (("as_sym_int", "int64"), ("as_sym_float", "float64"), ("as_sym_bool", "bool")):
        symbol = _get(_get(argument, kind), "as_name")
        if isinstance(symbol, str):
            yield Port(symbol[:200], dtype, ())


def _dimension(size: Json) -> int | str | None:
    fixed = _get(size, "as_int")
    if isinstance(fixed, int):
        return fixed
    text = _get(_get(size, "as_expr"), "expr_str")
    if not isinstance(text, str):
        return None
    return _INTEGER.sub(r"\1", _SYMBOL.sub(r"\1", text[:1000]))[:100]


def _ranges(constraints: Mapping[str, Json]) -> dict[str, Json]:
    ranges: dict[str, Json] = {}
    for symbol, limits in list(constraints.items())[:200]:
        ranges[symbol[:60]] = [_bound(_get(limits, "min_val")), _bound(_get(limits, "max_val"))]
    return ranges


def _bound(value: Json) -> Json:
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def _classes(nodes: Sequence[Json]) -> dict[str, str]:
    """Module path to class, from the stacks the nodes carry: ``key,path,class;key,path,class``."""
    classes: dict[str, str] = {}
    for node in nodes:
        stack = _get(_get(node, "metadata"), "nn_module_stack")
        if not isinstance(stack, str):
            continue
        for entry in stack[:4000].split(";")[:64]:
            parts = entry.split(",")
            if len(parts) == 3 and len(classes) < _MAX_COMPONENTS:
                classes.setdefault(parts[1][:200], parts[2][:200])
    return classes


def _size(value: Json) -> int:
    number = _get(value, "as_int") if isinstance(value, Mapping) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_ELEMENTS:
        raise Malformed("a tensor's size is not a plausible number")
    return number


def _integer(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _get(value: Json, key: str) -> Json:
    return value.get(key) if isinstance(value, Mapping) else None


def _object(value: Json, key: str) -> Mapping[str, Json]:
    found = _get(value, key)
    return found if isinstance(found, Mapping) else {}


def _list(value: Json, key: str) -> Sequence[Json]:
    found = _get(value, key)
    return found if isinstance(found, Sequence) and not isinstance(found, str) else []
