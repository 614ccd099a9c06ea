"""Builders of ONNX models, field by field: external data in every holder, operators in every place."""

from __future__ import annotations

from wire_builder import field, fields


def tensor(name: str, dims: tuple[int, ...] = (2,), raw: bytes | None = None, *, data_type: int = 1) -> bytes:
    """A ``TensorProto`` of floats."""
    parts = [*((1, size) for size in dims), (2, data_type), (8, name)]
    return fields(*parts, *([(9, raw)] if raw is not None else []))


def external(name: str = "w", dims: tuple[int, ...] = (2,), **keys: str) -> bytes:
    """A ``TensorProto`` whose bytes lie in another file."""
    pairs = b"".join(field(13, fields((1, key), (2, value))) for key, value in keys.items())
    return tensor(name, dims) + pairs + field(14, 1)


def attribute(name: str, *parts: tuple[int, object]) -> bytes:
    """An ``AttributeProto``."""
    return fields((1, name), *parts)


def node(operator: str = "Relu", domain: str = "", *attributes: bytes) -> bytes:
    """A ``NodeProto``."""
    inner = b"".join(field(5, each) for each in attributes)
    return fields((1, "x"), (2, "y"), (4, operator)) + inner + (field(7, domain) if domain else b"")


def graph(*parts: tuple[int, object]) -> bytes:
    """A ``GraphProto`` with one ordinary operator."""
    return fields((1, node()), (2, "small"), *parts)


def function(name: str, *nodes: bytes, domain: str = "local") -> bytes:
    """A ``FunctionProto``."""
    return fields((1, name), *((7, each) for each in nodes), (10, domain))


def model(graph_bytes: bytes, *parts: tuple[int, object], domains: tuple[str, ...] = ("",)) -> bytes:
    """A ``ModelProto``."""
    imports = [(8, fields((1, domain), (2, 17))) for domain in domains]
    return fields((1, 8), (2, "builder"), (7, graph_bytes), *imports, *parts)


def holders(held: bytes) -> list[bytes]:
    """Models that hold a tensor in every place a tensor can stand in."""
    sparse = fields((1, held), (2, tensor("i", (1,), bytes(8), data_type=7)), (3, 2))
    branch = graph((5, held))
    return [
        model(graph((5, held))),
        model(graph((15, sparse))),
        model(graph((1, node("Constant", "", attribute("value", (5, held)))))),
        model(graph((1, node("Constant", "", attribute("value", (22, sparse)))))),
        model(graph((1, node("If", "", attribute("then_branch", (6, branch)))))),
        model(graph((1, node("Loop", "", attribute("body", (11, branch)))))),
        model(graph(), (25, function("f", node("Constant", "", attribute("value", (5, held)))))),
        model(graph(), (20, fields((1, branch)))),
    ]


def operators(operator: bytes, domain: str = "") -> list[bytes]:
    """Models that use an operator in every place an operator can stand in."""
    domains = ("", domain) if domain else ("",)
    branch = graph((1, operator))
    return [
        model(graph((1, operator)), domains=domains),
        model(graph((1, node("If", "", attribute("then_branch", (6, branch))))), domains=domains),
        model(graph(), (25, function("f", operator)), domains=domains),
        model(graph(), (20, fields((1, branch))), domains=domains),
    ]


def laughing(levels: int, each: int = 10) -> bytes:
    """Functions that call the next one many times over."""
    bodies = [function(f"f{level}", *[node(f"f{level + 1}", "local")] * each) for level in range(levels)]
    bodies.append(function(f"f{levels}", node()))
    return model(graph((1, node("f0", "local"))), *((25, body) for body in bodies), domains=("", "local"))


def looping() -> bytes:
    """A function that calls itself through another one."""
    bodies = [function("f", node("g", "local")), function("g", node("f", "local"))]
    return model(graph((1, node("f", "local"))), *((25, body) for body in bodies), domains=("", "local"))
