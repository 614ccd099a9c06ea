"""Pickle streams, understood without executing anything.

``parse`` runs a stream on a symbolic machine and gives the value it describes as a graph of constants, containers and
symbols (``values``), with every global it names. All protocols, 0 to 5, as CPython's C unpickler reads them.

Not here: what the globals mean. Formats give meaning, the audit gives verdicts.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from assay.containers.pickle.machine import Machine
from assay.containers.pickle.stream import Fault, Limits
from assay.containers.pickle.values import (
    Blob,
    Bytes,
    Call,
    Global,
    Opaque,
    Persistent,
    Symbol,
    Unknown,
    payload,
    plain,
)
from assay.errors import BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Window

__all__ = [
    "Blob",
    "Bytes",
    "Call",
    "Global",
    "GlobalUse",
    "Limits",
    "Opaque",
    "Parsed",
    "Persistent",
    "Symbol",
    "Unknown",
    "is_importable",
    "looks_like_pickle",
    "parse",
    "payload",
    "plain",
]

_DEFAULTS = Limits()
_SNIFF = Limits(opcodes=20_000, values=20_000, memo=20_000, marks=1000, stack=20_000)
_FIRST_BINARY_PROTOCOL = 2
_LAST_PROTOCOL = 5
_OPCODES = frozenset(b"(.012FGIJKLMNPQRSTUVXabcdeghijlopqrstu])}BC") | frozenset(range(0x80, 0x99))
_TEXT_STARTS = frozenset(b"(]}cFILNSVGJKMTUXi)l")
_ENOUGH = 12  # opcodes of a cut-off protocol 0 or 1 stream that no ordinary text survives


@dataclass(frozen=True, slots=True)
class GlobalUse:
    """One distinct global of a stream.

    Args:
        global_: its name.
        offset: where it is first named, counted from the start of the window.
        called: whether the stream calls or instantiates it itself; otherwise it is imported and passed on.
    """

    global_: Global
    offset: int
    called: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one stream says.

    Args:
        value: what unpickling would return; ``Unknown`` when the stream breaks before STOP.
        end: position after the STOP opcode (or where the run ended), counted from the start of the window.
        protocol: as the stream states; 0 when it does not.
        globals: every distinct global, in order of appearance.
        calls: every call and instantiation in order, also those whose result is thrown away.
        opcodes: instructions run.
        findings: rules ``pickle-broken``, ``pickle-limit``, ``pickle-frame``, ``pickle-computed-global``,
            ``pickle-extension``, ``pickle-out-of-band``, ``pickle-changes-global``, ``pickle-memo-index``.
        complete: whether STOP was reached.
        cut: whether the run ended because the bytes did.
        persistent: every object the stream names to its loader, also those it throws away.
    """

    value: Any
    end: int
    protocol: int
    globals: tuple[GlobalUse, ...]
    calls: tuple[Call, ...]
    opcodes: int
    findings: tuple[Finding, ...]
    complete: bool
    cut: bool = False
    persistent: tuple[Persistent, ...] = ()


def parse(
    window: Window,
    *,
    offset: int = 0,
    limits: Limits = _DEFAULTS,
    on_build: Callable[[Call, int], int | None] | None = None,
) -> Parsed:
    """Run one pickle stream symbolically, from *offset* to its STOP.

    A fault in mid-stream loses nothing: what was understood comes back with a finding ``pickle-broken`` or
    ``pickle-limit`` of severity incomplete, and ``value`` is ``Unknown`` about the values left on the stack.

    Args:
        window: the bytes; long bytes arguments are skipped, not read.
        offset: where the stream starts; pass ``Parsed.end`` for the next of concatenated streams.
        limits: bounds.
        on_build: called after each BUILD on a call with it and the position after the opcode (from the start of the
            window); a position it returns is where the stream goes on (joblib keeps array bytes inside the stream).

    Raises:
        BadFormat: it is not a pickle at all.
    """
    machine = Machine(window, offset, limits)
    complete = cut = False
    value: Any
    collecting = gc.isenabled()
    gc.disable()  # millions of new values and no garbage among them: collecting would cost a third of the time
    try:
        value = machine.run(on_build)
        complete = True
        if machine.fence > machine.end:
            machine.torn(machine.end - machine.base)
    except Fault as fault:
        if not fault.limit and machine.opcodes < 4 and not machine.globals:  # noise, not a stream that breaks
            raise BadFormat(
                f"{window.path or 'the file'} is not a pickle: {fault}",
                path=window.path,
                offset=window.start + machine.at,
            ) from None
        value = _rest(machine, str(fault), limit=fault.limit)
        cut = fault.cut
    except LimitExceeded as error:
        value = _rest(machine, error.message, limit=True)
    finally:
        if collecting:
            gc.enable()
    called = set(map(id, map(attrgetter("function"), machine.calls)))
    return Parsed(
        value=value,
        end=machine.end,
        protocol=machine.protocol,
        globals=tuple(GlobalUse(global_, first, id(global_) in called) for global_, first in machine.globals.values()),
        calls=tuple(machine.calls),
        opcodes=machine.opcodes,
        findings=tuple(machine.findings),
        complete=complete,
        cut=cut,
        persistent=tuple(machine.persistent),
    )


def looks_like_pickle(head: bytes) -> bool:
    """Whether an entry that begins with *head* is a pickle stream.

    Protocols 2 and later say so in their first two bytes. Protocols 0 and 1 have no magic number: the head must run on
    the machine up to STOP, or, when it is cut off, far enough that ordinary text would not.
    """
    if len(head) < 2:
        return False
    if head[0] == 0x80:  # PROTO
        return _FIRST_BINARY_PROTOCOL <= head[1] <= _LAST_PROTOCOL and len(head) > 2 and head[2] in _OPCODES
    if head[0] not in _TEXT_STARTS:
        return False
    try:
        parsed = parse(BytesWindow(head), limits=_SNIFF)
    except BadFormat:
        return False
    if not all(is_importable(use.global_) for use in parsed.globals):  # lines of prose that begin with c or i
        return False
    if parsed.complete:
        return parsed.end == len(head) or looks_like_pickle(head[parsed.end :])
    return parsed.cut and parsed.opcodes >= _ENOUGH


def is_importable(name: Global) -> bool:
    """Whether a name is one that Python code could spell."""
    return all(part.isidentifier() for part in f"{name.module}.{name.name}".split("."))


def _rest(machine: Machine, reason: str, *, limit: bool) -> Unknown:
    rule = "pickle-limit" if limit else "pickle-broken"
    message = f"pickle stream not read to its end: {reason}"
    where = machine.window.start + machine.at
    machine.findings.append(Finding(rule, Severity.INCOMPLETE, message, machine.window.path, where))
    left = [value for level in [*machine.meta, machine.stack] for value in level[-1000:]]
    return Unknown(reason, left[-1000:])
