"""The rare opcodes of pickle.

Each handler takes the machine, the position of its opcode and the position after it, both within the current chunk, and
returns where to go on. A handler that needs bytes beyond the chunk asks for them before it changes anything.

Source of the semantics: CPython ``Modules/_pickle.c`` (3.11), functions ``load_*``.
"""

# ruff: noqa: ARG001 - handlers share one signature, not all need all of it

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from assay.containers.pickle.stream import SET, UNKNOWN, Fault, More, Stream, store
from assay.containers.pickle.values import Blob, Bytes, Persistent, Symbol, Unknown, key
from assay.spec.finding import Severity

MAX_INTEGER = 4096  # bytes; arithmetic on longer integers costs more than their bytes
_HIGHEST_PROTOCOL = 5
_SIGN = 1 << 31  # from here on a length or code of four bytes is negative


# Values written as text


_STRTOL = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_NAMED_ESCAPES = {
    b"\\": b"\\", b"'": b"'", b'"': b'"', b"b": b"\b", b"f": b"\f", b"t": b"\t",
    b"n": b"\n", b"r": b"\r", b"v": b"\v", b"a": b"\a", b"\n": b"",
}  # fmt: skip


def number(raw: bytes) -> int | bool:
    """Argument of INT as C's ``strtol`` with base 0 reads it, else as Python does; ``00`` and ``01`` are booleans."""
    raw = raw.partition(b"\0")[0]
    match = _STRTOL.match(raw)
    if not match:
        return int(raw.decode("utf-8"), 0)
    digits = match[2]
    base = 16 if digits[:2] in {b"0x", b"0X"} else 8 if digits[:1] == b"0" else 10
    value = int(digits, base)
    if match[1] == b"-":
        value = -value
    return bool(value) if len(raw) == 2 and value in {0, 1} else value


def real(raw: bytes) -> float:
    """Argument of FLOAT."""
    return float(raw.partition(b"\0")[0])


def text_of(raw: bytes) -> str:
    """Text of a Python 2 string, whose encoding the stream does not say."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def quoted(raw: bytes) -> str:
    r"""Argument of STRING: a Python 2 literal in quotes with backslash escapes."""
    raw = raw.rstrip(b"\r\t ")
    if len(raw) < 2 or raw[0] != raw[-1] or raw[0] not in b"'\"":
        raise Fault("text without quotes")
    raw = raw[1:-1]
    return text_of(_ESCAPE.sub(_unescape, raw) if b"\\" in raw else raw)


def _unescape(match: re.Match[bytes]) -> bytes:
    body = match[1]
    if body[:1] == b"x" and len(body) == 3:
        return bytes([int(body[1:], 16)])
    if body[0] in b"01234567":
        return bytes([int(body, 8) & 0xFF])
    return _NAMED_ESCAPES.get(body, match[0])


# Handlers


def _unknown(stream: Stream, at: int, pos: int) -> NoReturn:
    raise Fault(f"{stream.data[at]:#04x} is not an instruction")


def _proto(stream: Stream, at: int, pos: int) -> int:
    version = stream.unsigned(at, pos, 1)
    if version > _HIGHEST_PROTOCOL:
        raise Fault(f"protocol {version} is not known, at most {_HIGHEST_PROTOCOL}")
    stream.protocol = version
    return pos + 1


def _frame(stream: Stream, at: int, pos: int) -> int:
    length = stream.unsigned(at, pos, 8)
    end = stream.base + pos + 8 + length
    if end > stream.window.size:
        stream.report("pickle-frame", Severity.MISLEAD, f"a frame says {length:,} bytes, more than there are", at)
    elif stream.fence and end != stream.fence:
        stream.torn(at)
    elif length and not stream.fence:
        stream.fence = end
        if stream.base + stream.size >= end:
            raise More(at, 0)  # again, with a chunk that ends where the frame does
    return pos + 8


def _long4(stream: Stream, at: int, pos: int) -> int:
    length = stream.unsigned(at, pos, 4)
    if length >= _SIGN:
        raise Fault("an integer has a negative length")
    end = pos + 4 + length
    if length > MAX_INTEGER:
        stream.jump(stream.base + end, stream.base + pos)
        stream.stack.append(Unknown(f"an integer of {length:,} bytes"))
        return end
    if end > stream.size:
        stream.more(at, end)
    stream.stack.append(int.from_bytes(stream.data[pos + 4 : end], "little", signed=True))
    return end


def _long(stream: Stream, at: int, pos: int) -> int:
    raw, pos = stream.line(at, pos)
    if len(raw) > MAX_INTEGER:
        stream.stack.append(Unknown(f"an integer of {len(raw):,} digits"))
        return pos
    digits = raw.removesuffix(b"L").partition(b"\0")[0].decode("utf-8")
    stream.stack.append(int(digits, 0))
    return pos


def _binstring(stream: Stream, at: int, pos: int) -> int:
    width = 1 if stream.data[at] == 0x55 else 4  # SHORT_BINSTRING, BINSTRING
    length = stream.unsigned(at, pos, width)
    if length >= _SIGN:
        raise Fault("a string has a negative length")
    value, end = _bytes(stream, at, pos + width, length)
    if isinstance(value, bytes) and value.isascii() and b"\0" not in value:
        value = value.decode("ascii")
    stream.stack.append(value)
    return end


def _binbytes8(stream: Stream, at: int, pos: int) -> int:
    length = stream.unsigned(at, pos, 8)
    value, end = _bytes(stream, at, pos + 8, length)
    stream.stack.append(value)
    return end


def _bytes(stream: Stream, at: int, start: int, length: int) -> tuple[Any, int]:
    end = start + length
    if length > stream.limits.inline:
        stream.jump(stream.base + end, stream.base + start)
        return Blob(stream.base + start, length), end
    if end > stream.size:
        stream.more(at, end)
    value = Bytes(stream.data[start:end])
    value.offset = stream.base + start
    return value, end


def _binunicode8(stream: Stream, at: int, pos: int) -> int:
    length = stream.unsigned(at, pos, 8)
    if length > stream.limits.text:
        raise Fault(f"text of {length:,} bytes, at most {stream.limits.text:,} are read", limit=True)
    end = pos + 8 + length
    if end > stream.size:
        stream.more(at, end)
    stream.stack.append(str(stream.data[pos + 8 : end], "utf-8", "surrogatepass"))
    return end


def _global(stream: Stream, at: int, pos: int) -> int:
    module, after = stream.line(at, pos)
    name, after = stream.line(at, after)
    stream.stack.append(stream.find(module.decode("utf-8"), name.decode("utf-8"), at))
    return after


def _stack_global(stream: Stream, at: int, pos: int) -> int:
    name, module = stream.stack.pop(), stream.stack.pop()
    if type(name) is str and type(module) is str:
        stream.stack.append(stream.find(module, name, at))
        return pos
    if not (isinstance(name, (str, Symbol)) and isinstance(module, (str, Symbol))):
        raise Fault("the name of a global is not text")
    evidence = f"{module if isinstance(module, str) else '?'}.{name if isinstance(name, str) else '?'}"
    stream.report("pickle-computed-global", Severity.EXECUTE, "the name of a global is computed", at, evidence)
    stream.heavy += UNKNOWN
    stream.stack.append(Unknown("a global with a computed name", (module, name)))
    return pos


def _extension(stream: Stream, at: int, pos: int) -> int:
    width = {0x82: 1, 0x83: 2, 0x84: 4}[stream.data[at]]
    code = stream.unsigned(at, pos, width)
    if not 0 < code < _SIGN:
        raise Fault(f"extension code {code} is not positive")
    stream.report(
        "pickle-extension", Severity.EXECUTE, f"a global is named by code {code} of the loader's registry", at
    )
    stream.heavy += UNKNOWN
    stream.stack.append(Unknown(f"extension {code}"))
    return pos + width


def _inst(stream: Stream, at: int, pos: int) -> int:
    module, after = stream.line(at, pos)
    name, after = stream.line(at, after)
    args = tuple(_pop_mark(stream))
    function = stream.find(module.decode("utf-8"), name.decode("utf-8"), at)
    stream.stack.append(stream.call(function, args, at, "inst"))
    return after


def _obj(stream: Stream, at: int, pos: int) -> int:
    items = _pop_mark(stream)
    stream.stack.append(stream.call(items[0], tuple(items[1:]), at, "obj"))
    return pos


def _newobj_ex(stream: Stream, at: int, pos: int) -> int:
    kwargs, args, cls = stream.stack.pop(), stream.stack.pop(), stream.stack.pop()
    if not isinstance(kwargs, dict):
        if not isinstance(kwargs, Symbol):
            raise Fault(f"keyword arguments are a {type(kwargs).__name__}, not a dict")
        kwargs = {"**": kwargs}
    stream.stack.append(stream.call(cls, args, at, "newobj", kwargs))
    return pos


def _persid(stream: Stream, at: int, pos: int) -> int:
    raw, after = stream.line(at, pos)
    _name_outside(stream, Persistent(text_of(raw), stream.base + at))
    return after


def _binpersid(stream: Stream, at: int, pos: int) -> int:
    _name_outside(stream, Persistent(stream.stack.pop(), stream.base + at))
    return pos


def _name_outside(stream: Stream, value: Persistent) -> None:
    stream.heavy += UNKNOWN
    stream.persistent.append(value)
    stream.stack.append(value)


def _pop(stream: Stream, at: int, pos: int) -> int:
    if stream.stack:
        stream.stack.pop()
    else:
        _pop_mark(stream)
    return pos


def _pop_mark(stream: Stream) -> list[Any]:
    items = stream.stack
    stream.stack = stream.meta.pop()
    return items


def _pop_to_mark(stream: Stream, at: int, pos: int) -> int:
    _pop_mark(stream)
    return pos


def _dup(stream: Stream, at: int, pos: int) -> int:
    stream.stack.append(stream.stack[-1])
    return pos


def _list(stream: Stream, at: int, pos: int) -> int:
    items = _pop_mark(stream)
    stream.stack.append(items)
    return pos


def _dict(stream: Stream, at: int, pos: int) -> int:
    items = _pop_mark(stream)
    made: dict[Any, Any] = {}
    store(stream, made, items)
    stream.stack.append(made)
    return pos


def _empty_set(stream: Stream, at: int, pos: int) -> int:
    stream.heavy += SET
    stream.stack.append(set())
    return pos


def _additems(stream: Stream, at: int, pos: int) -> int:
    items = _pop_mark(stream)
    target = stream.stack[-1]
    if type(target) is set:
        target.update(map(key, items))
    elif isinstance(target, Symbol):
        stream.grow(target)
        target.extend(items)
    elif items:
        raise Fault(f"members are added to a {type(target).__name__}")
    return pos


def _frozenset(stream: Stream, at: int, pos: int) -> int:
    items = _pop_mark(stream)
    stream.heavy += SET
    stream.stack.append(frozenset(map(key, items)))
    return pos


def _next_buffer(stream: Stream, at: int, pos: int) -> int:
    stream.report("pickle-out-of-band", Severity.INCOMPLETE, "a buffer lies outside the stream", at)
    stream.stack.append(Unknown(f"out-of-band buffer {stream.buffers}"))
    stream.buffers += 1
    return pos


def _readonly_buffer(stream: Stream, at: int, pos: int) -> int:
    stream.stack[-1]  # the stack must not be empty; the value stays as it is
    return pos


Handler = Callable[[Stream, int, int], int]

_HANDLERS: dict[int, Handler] = {
    0x80: _proto, 0x95: _frame,
    0x8B: _long4, 0x4C: _long,
    0x55: _binstring, 0x54: _binstring, 0x8E: _binbytes8, 0x96: _binbytes8, 0x8D: _binunicode8,
    0x63: _global, 0x93: _stack_global, 0x82: _extension, 0x83: _extension, 0x84: _extension,
    0x69: _inst, 0x6F: _obj, 0x92: _newobj_ex,
    0x50: _persid, 0x51: _binpersid,
    0x30: _pop, 0x31: _pop_to_mark, 0x32: _dup,
    0x6C: _list, 0x64: _dict, 0x8F: _empty_set, 0x90: _additems, 0x91: _frozenset,
    0x97: _next_buffer, 0x98: _readonly_buffer,
}  # fmt: skip

COLD: tuple[Handler, ...] = tuple(_HANDLERS.get(code, _unknown) for code in range(256))
"""Handler of every opcode that the hot loop leaves to us; those of no opcode refuse."""
