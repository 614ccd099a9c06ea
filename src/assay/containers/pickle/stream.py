"""State of one symbolic run of a pickle stream: input, stacks, memo, and what was seen.

Both halves of the machine (``machine``, ``opcodes``) work on it; it knows no opcode.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from bisect import bisect_left
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, NoReturn

import numpy as np

from assay.containers.pickle.constants import scalars
from assay.containers.pickle.values import NOTHING, Call, Global, Persistent, Symbol, Unknown, key, keys
from assay.spec.finding import Finding, Severity
from assay.trees import Window

CHUNK = 1 << 20
SLACK = 64
_FRAME = 0x95
"""Zero bytes put after each chunk; no look-ahead and no argument of fixed size goes further."""

MAX_FINDINGS = 100
HOLE = Unknown("a memo entry that was never stored")
"""Stands in the memo where an index was left out."""

_MAX_GAP = 1 << 16  # indices further out than this are kept in a dict: their distance costs nothing there
HUGE_INDEX = 1 << 22
"""Memo entries from here on are a finding: CPython's unpickler keeps an array of twice that many pointers."""
_NEWLINE = 10
# How many values more than the one already counted the memory of these is worth.
_GLOBAL = 6
_GROWN = 3
SET = 2
UNKNOWN = 1
_FIRST_UNIFIED_PROTOCOL = 3  # names in older streams are those of Python 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one symbolic run.

    Args:
        opcodes: instructions.
        values: containers and calls made; what takes more memory than these counts as several.
        memo: memo entries.
        marks: nested marks.
        stack: values on the stack above the innermost mark.
        inline: longest bytes argument that is read; longer ones become ``Blob``.
        text: longest text argument that is read beyond the chunk it begins in.
    """

    opcodes: int = 16_000_000
    values: int = 3_000_000
    memo: int = 12_000_000
    marks: int = 100_000
    stack: int = 12_000_000
    inline: int = 1 << 20
    text: int = 1 << 28


class Fault(Exception):
    """The stream breaks a rule of the machine, or (``limit``) one of our bounds, or (``cut``) ends too early."""

    def __init__(self, message: str, *, limit: bool = False, cut: bool = False) -> None:
        super().__init__(message)
        self.limit = limit
        self.cut = cut


class More(Exception):
    """The instruction at *at* goes on beyond the chunk: load *size* bytes from its opcode and do it again."""

    def __init__(self, at: int, size: int) -> None:
        super().__init__()
        self.at = at
        self.size = size


class Stream:
    """State of one run: input, stacks, memo, and what was seen.

    Args:
        window: the bytes.
        offset: where the stream starts.
        limits: bounds.

    Attributes:
        fence: where the frame that is being read ends; no chunk goes beyond it. 0 outside frames.
        fenced: whether the chunk ends there.
        block, block_at: the bytes read last, and where they lie; frames are shorter than what is read at once.
    """

    def __init__(self, window: Window, offset: int, limits: Limits) -> None:
        self.window = window
        self.limits = limits
        self.data = b""
        self.base = offset
        self.size = 0
        self.final = False
        self.fence = 0
        self.fenced = False
        self.block = b""
        self.block_at = offset
        self.stack: list[Any] = []
        self.meta: list[list[Any]] = []
        self.memo: list[Any] = []
        self.far: dict[int, Any] = {}
        self.holes = 0
        self.globals: dict[tuple[str, str], tuple[Global, int]] = {}
        self.calls: list[Call] = []
        self.persistent: list[Persistent] = []
        self.findings: list[Finding] = []
        self.protocol = 0
        self.opcodes = self.made = self.heavy = self.buffers = 0
        self.end = self.at = offset

    def load(self, absolute: int, want: int) -> None:
        """Make the chunk that starts at *absolute* current: at least *want* bytes, where the window has them.

        Raises:
            Fault: nothing is there.
        """
        length = max(CHUNK, want)
        if self.fence:
            self._pass_fence(absolute)
        if self.fence:
            length = min(length, self.fence - absolute)
        data = self._ahead(absolute, length, want)
        if not data:
            inside = absolute > self.window.size
            raise Fault("the stream ends inside an instruction" if inside else "the stream ends without STOP", cut=True)
        self.base, self.size = absolute, len(data)
        self.final = absolute + self.size >= self.window.size
        self.fenced = absolute + self.size == self.fence
        self.data = data + bytes(SLACK)  # no opcode: marks the end, and looking ahead cannot fail

    def _ahead(self, absolute: int, length: int, want: int) -> bytes:
        """Up to *length* bytes at *absolute*, at least *want* and some more where the window has them."""
        start = absolute - self.block_at
        left = len(self.block) - start
        if start < 0 or left < min(length, want + SLACK):
            self.block, self.block_at, start = self.window.read(absolute, max(CHUNK, length)), absolute, 0
        return self.block[start : start + length]

    def _pass_fence(self, absolute: int) -> None:
        """Go beyond the end of the frame, or on inside it.

        An unpickler that reads a file drops what is left of a frame when an instruction asks for more than that, and
        reads on behind it; one that has the whole stream in memory does not. So no instruction may lie across the end.
        """
        if absolute == self.fence:
            head = self._ahead(absolute, 9, 9)
            end = absolute + 9 + int.from_bytes(head[1:], "little")
            self.fence = end if len(head) == 9 and head[0] == _FRAME and absolute + 9 < end <= self.window.size else 0
        elif absolute > self.fence or self.fenced:
            self.torn(absolute - self.base)

    def leave_frame(self, pos: int) -> None:
        """Raw bytes follow at *pos*: they lie behind the frame, which must end there."""
        if self.base + pos == self.fence:
            self.fence = 0
        else:
            self.torn(pos)

    def torn(self, at: int) -> None:
        """Report that the frame does not end where an instruction does, and forget its end."""
        self.fence = 0
        message = "a frame ends inside an instruction: unpicklers differ about what follows"
        self.report("pickle-frame", Severity.MISLEAD, message, at)

    def check(self) -> None:
        """Hold the limits; done once per chunk."""
        limits = self.limits
        for what, count, most in (
            ("instructions", self.opcodes, limits.opcodes),
            ("values", self.made + self.heavy, limits.values),
            ("memo entries", len(self.memo) + len(self.far), limits.memo),
            ("nested marks", len(self.meta), limits.marks),
            ("values on the stack", len(self.stack), limits.stack),
        ):
            if count > most:
                raise Fault(f"more than {most:,} {what}", limit=True)

    def more(self, at: int, end: int) -> NoReturn:
        """Ask for the bytes up to *end*, which lies beyond the chunk."""
        if self.base + end > self.window.size:
            raise Fault(f"an argument of {end - at:,} bytes goes beyond the end", cut=True)
        raise More(at, end - at + SLACK)

    def more_line(self, at: int) -> NoReturn:
        """Ask for more bytes, because a line does not end in the chunk."""
        if self.final:
            raise Fault("a line does not end", cut=True)
        if self.size - at > self.limits.text:
            raise Fault(f"a line of more than {self.limits.text:,} bytes", limit=True)
        raise More(at, 2 * (self.size - at) + SLACK)

    def seek_line(self, ends: list[int], turn: int, pos: int) -> int:
        """Index in *ends* of the first line end at or after *pos*, not before *turn*; the first call fills *ends*.

        The last of *ends* is -1, which no position comes before: who meets it asks here.
        """
        if len(ends) == 1:
            chunk = np.frombuffer(self.data, np.uint8, self.size)
            ends[:0] = np.flatnonzero(chunk == _NEWLINE).tolist()
        turn = bisect_left(ends, pos, turn, len(ends) - 1)
        if turn == len(ends) - 1:
            self.more_line(pos)
        return turn

    def line(self, at: int, pos: int) -> tuple[bytes, int]:
        """The line at *pos* without its newline, and the position after it."""
        end = self.data.find(b"\n", pos, self.size)
        if end < 0:
            self.more_line(at)
        return self.data[pos:end], end + 1

    def jump(self, target: int, origin: int) -> None:
        """Check that *target* lies between *origin* and the end of the window (both absolute)."""
        if not origin <= target <= self.window.size:
            raise Fault(f"an argument of {target - origin:,} bytes goes beyond the end", cut=True)

    def report(self, rule: str, severity: Severity, message: str, at: int, evidence: str = "") -> None:
        """Add a finding about the opcode at *at*; beyond ``MAX_FINDINGS`` the first of each rule is kept."""
        if len(self.findings) < MAX_FINDINGS or all(known.rule != rule for known in self.findings):
            where = self.window.start + self.base + at
            self.findings.append(Finding(rule, severity, message, self.window.path, where, evidence[:200]))

    def find(self, module: str, name: str, at: int) -> Global:
        """The one ``Global`` of that name, as the unpickler would resolve it."""
        if self.protocol < _FIRST_UNIFIED_PROTOCOL:
            if (module, name) in NAME_MAPPING:
                module, name = NAME_MAPPING[module, name]
            else:
                module = IMPORT_MAPPING.get(module, module)
        known = self.globals.get((module, name))
        if known is None:
            self.heavy += _GLOBAL
            known = self.globals[module, name] = Global(module, name), self.base + at
        return known[0]

    def call(self, function: Any, args: Any, at: int, how: str, kwargs: Any = None) -> Call:
        """Record that *function* is called."""
        if type(function) is not Global and not isinstance(function, Symbol):
            raise Fault(f"a {type(function).__name__} is called")
        if not isinstance(args, tuple):
            if not isinstance(args, Symbol):
                raise Fault(f"arguments are a {type(args).__name__}, not a tuple")
            args = (Unknown("computed arguments", args),)
        made = Call(function, args, kwargs, self.base + at, how)
        self.calls.append(made)
        return made

    def take_scalars(self, start: int, stack: list[Any]) -> tuple[int, int, int]:
        """Take the run of NumPy scalars at *start*, if there is one; no memo entry may be missing.

        Returns:
            Number of scalars in it, its instructions, and where it ends.
        """
        memo = self.memo
        found = scalars(self.data, start, self.size)
        if found is None or max(found.function, found.dtype) >= len(memo):
            return 0, 0, start
        function = memo[found.function]
        if type(function) is not Global:
            return 0, 0, start
        arguments = [*zip(repeat(memo[found.dtype]), found.raws)]
        made = []
        new, at = object.__new__, self.base - 2  # REDUCE comes before the last MEMOIZE
        for args, end in zip(arguments, found.ends, strict=True):
            call = new(Call)
            call.function, call.args, call.kwargs, call.how, call.offset = function, args, NOTHING, "reduce", at + end
            call.state = call.grown = None
            made.append(call)
        self.calls += made
        columns: list[list[Any]] = [found.raws, arguments, made]
        if found.keys:
            stack.extend(chain.from_iterable(zip(found.keys, made, strict=True)))
            if type(found.keys[0]) is str:
                columns.insert(0, found.keys)
        else:
            stack.extend(made)
        memo.extend(chain.from_iterable(zip(*columns, strict=True)))
        keyed = len(columns) - 2 if found.keys else 0
        return len(made), (8 + keyed) * len(made), found.ends[-1]

    def unsigned(self, at: int, pos: int, width: int) -> int:
        """The little-endian integer of *width* bytes at *pos*."""
        if pos + width > self.size:
            self.more(at, pos + width)
        return int.from_bytes(self.data[pos : pos + width], "little")

    def put(self, index: int, value: Any) -> int:
        """Store a memo entry out of sequence; returns what is not 0 while earlier entries are missing."""
        memo = self.memo
        if index < 0:
            raise Fault(f"memo entry {index} is negative")
        if index in self.far or index > len(memo) + _MAX_GAP:
            if index >= HUGE_INDEX and not any(known >= HUGE_INDEX for known in self.far):
                self.report(
                    "pickle-memo-index",
                    Severity.EXHAUST,
                    f"memo entry {index:,} makes an unpickler take memory for all before it",
                    0,
                )
            self.far[index] = value
        elif index < len(memo):
            if memo[index] is HOLE:
                self.holes -= 1
            memo[index] = value
        else:
            self.holes += index - len(memo)
            memo.extend([HOLE] * (index - len(memo)))
            memo.append(value)
        return self.holes + len(self.far)

    def get(self, index: int) -> Any:
        """A memo entry.

        Raises:
            KeyError: it was never stored.
        """
        value = self.memo[index] if 0 <= index < len(self.memo) else HOLE
        if value is HOLE:
            value = self.far.get(index, HOLE)
        if value is HOLE:
            raise KeyError(index)
        return value

    def hole(self, pos: int) -> NoReturn:
        """A BINGET, read up to *pos*, found no entry: unless its argument was the padding, the stream is broken."""
        if pos > self.size:
            self.more(self.size - 1, self.size + 1)
        raise KeyError(self.data[pos - 1])

    def memoize(self, value: Any) -> None:
        """MEMOIZE where entries are missing: the index is the number of entries, as the C unpickler counts."""
        self.put(len(self.memo) - self.holes + len(self.far), value)

    def grow(self, target: Symbol) -> None:
        """Count the memory of what *target* is about to be given beside its arguments."""
        if target.grown is None:
            self.heavy += _GROWN

    def append_to(self, target: Any, values: list[Any]) -> None:
        """APPEND and APPENDS on something other than a list; appending nothing is allowed on anything."""
        if isinstance(target, Symbol):
            self.grow(target)
            target.extend(values)
        elif type(target) is list:
            target.extend(values)
        elif values:
            raise Fault(f"values are appended to a {type(target).__name__}")

    def build_on(self, target: Any, state: Any, at: int) -> None:
        """BUILD on something that is not an instance."""
        if type(target) is Global:
            self.report(
                "pickle-changes-global",
                Severity.EXECUTE,
                f"attributes of {target} in the loading program are replaced",
                at,
                str(target),
            )
        elif state is not None:
            raise Fault(f"a {type(target).__name__} is given a state")


def store(stream: Stream, target: Any, items: list[Any]) -> None:
    """SETITEMS: put alternating keys and values into *target*."""
    if len(items) % 2:
        raise Fault("an odd number of keys and values")
    if type(target) is dict:
        target.update(zip(keys(items[::2]), items[1::2]))  # noqa: B905 - counted above, and asked of every small dict
    elif isinstance(target, Symbol):
        stream.grow(target)
        target.merge(zip(keys(items[::2]), items[1::2], strict=True))
    else:
        for name, value in zip(items[::2], items[1::2], strict=True):
            store_one(stream, target, name, value)


def store_one(stream: Stream, target: Any, name: Any, value: Any) -> None:
    """SETITEM: put one key and value into *target*."""
    if type(target) is dict:
        target[key(name)] = value
    elif isinstance(target, Symbol):
        stream.grow(target)
        target.update([(name, value)])
    elif type(target) is list and type(name) is int and -len(target) <= name < len(target):
        target[name] = value
    elif type(target) is Global:
        stream.report("pickle-changes-global", Severity.EXECUTE, f"an item of {target} is replaced", 0, str(target))
    else:
        raise Fault(f"an item is set in a {type(target).__name__}")
