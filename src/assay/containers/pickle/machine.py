"""The virtual machine of pickle, run symbolically: the hot loop.

Semantics are those of CPython's C unpickler (``Modules/_pickle.c``), which is more lenient than ``pickletools``:
numbers in base 0, frames that lie, MEMOIZE that counts entries, marks that fence the stack. Rare opcodes are in
``opcodes``.

Rule for editors: nothing is imported, called or compared by the stream's wish; no Python recursion; work and memory
per opcode are constant except where the bytes of the argument pay for it. Limits are checked once per chunk of input,
so a chunk's worth of opcodes is the granularity.

How it is fast: what picklers write in a row is taken in one step. A branch that makes a value falls through to the end
of the loop, where the opcode that stores it in the memo is taken with it; all other branches fetch the next opcode
themselves and go on. Runs of equal opcodes and whole NumPy scalars are taken at once. Text is cut from a Latin-1 copy
of the chunk and decoded properly only when it is not ASCII; where lines end is found for the whole chunk. Zero bytes
after the chunk are no opcode and so mark its end; looking ahead cannot leave them.
"""

from __future__ import annotations

import re
import struct
from codecs import raw_unicode_escape_decode
from collections.abc import Callable
from typing import Any

from assay.containers.pickle.constants import ENOUGH, constants
from assay.containers.pickle.opcodes import COLD, number, quoted, real
from assay.containers.pickle.stream import HOLE, Fault, More, Stream, store, store_one
from assay.containers.pickle.values import NOTHING, Blob, Bytes, Call, Global, Symbol

_FLOAT_APPENDS = re.compile(rb"(?:F[-+.0-9e]++\na)++")
_INT_APPENDS = re.compile(rb"(?:I(?:-?[1-9][0-9]{0,17}+|0)\na)++")
_BINFLOATS = re.compile(rb"(?:G.{8})++", re.DOTALL)
_BININT2S = re.compile(rb"(?:M..)++", re.DOTALL)
_BININTS = re.compile(rb"(?:J.{4})++", re.DOTALL)

_f8 = struct.Struct(">d").unpack_from
_i4 = struct.Struct("<i").unpack_from
_u2 = struct.Struct("<H").unpack_from
_u4 = struct.Struct("<I").unpack_from
_OP_F8 = struct.Struct(">xd")
_OP_U2 = struct.Struct("<xH")
_OP_I4 = struct.Struct("<xi")
_puts = struct.Struct("<BIBBIBBI").unpack_from  # how the end of a NumPy scalar is memoized before protocol 4
_BOOLEANS = frozenset(("00", "01"))

# CPython 3.11 compares slowly where the jump is long, so the three ranges of opcodes are looked up
_HIGH = tuple(code >= 0x80 for code in range(256))
_MIDDLE = tuple(code >= 0x60 for code in range(256))


class Machine(Stream):
    """One symbolic run over one stream; ``run`` once."""

    def run(self, on_build: Callable[[Call, int], int | None] | None) -> Any:  # noqa: C901, PLR0912, PLR0915 - see below
        """Interpret opcodes up to STOP and return the value on top of the stack.

        The one function of the project that is long on purpose: a call per opcode would cost more than the opcode
        (measured: three times the total), so the frequent opcodes stand here, and everything rare is a function
        called through ``COLD``.

        Raises:
            Fault: the stream breaks a rule of the machine, or a limit; what was understood stays in the attributes.
        """
        memo, meta, calls = self.memo, self.meta, self.calls
        remember, record, new = memo.append, calls.append, object.__new__
        high, middle, f8, i4, u2, u4, puts = _HIGH, _MIDDLE, _f8, _i4, _u2, _u4, _puts
        booleans = _BOOLEANS
        inline, longest = self.limits.inline, self.limits.text
        pos = want = count = made = holes = patience = pause = 0
        value: Any
        try:
            while True:
                self.opcodes, self.made = count, made
                self.load(self.base + pos, want)
                pos = want = turn = retry = resume = 0
                self.check()
                data, size, base, stack = self.data, self.size, self.base, self.stack
                text = data.decode("latin-1")
                ends = [-1]  # where lines end, once one is looked for
                op = data[0]
                try:
                    while True:
                        count += 1
                        if high[op]:
                            if op == 0x8C:  # SHORT_BINUNICODE
                                if pos >= retry and not holes:
                                    found = constants(data, pos, size)
                                    patience = (
                                        0 if found and len(found.values) >= ENOUGH else min(2 * patience + 64, 1 << 16)
                                    )
                                    retry = pos + patience
                                    if found:
                                        stack += found.values
                                        memo += found.memoized
                                        made += found.lists
                                        count += found.opcodes - 1
                                        pos = found.end
                                        op = data[pos]
                                        continue
                                start = pos + 2
                                end = start + data[pos + 1]
                                if end > size:
                                    self.more(pos, end)
                                value = text[start:end]
                                if not value.isascii():
                                    value = str(data[start:end], "utf-8", "surrogatepass")
                                stack.append(value)
                                pos = end
                            elif op == 0x86:  # TUPLE2
                                value = stack.pop()
                                stack[-1] = value = (stack[-1], value)
                                made += 1
                                pos += 1
                            elif op == 0x85:  # TUPLE1
                                stack[-1] = value = (stack[-1],)
                                made += 1
                                pos += 1
                            elif op == 0x87:  # TUPLE3
                                third = stack.pop()
                                value = stack.pop()
                                stack[-1] = value = (stack[-1], value, third)
                                made += 1
                                pos += 1
                            elif op == 0x88:  # NEWTRUE
                                stack.append(True)
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x89:  # NEWFALSE
                                stack.append(False)
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x94:  # MEMOIZE
                                if holes:
                                    self.memoize(stack[-1])
                                else:
                                    remember(stack[-1])
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x8A:  # LONG1
                                start = pos + 2
                                end = start + data[pos + 1]
                                if end > size:
                                    self.more(pos, end)
                                stack.append(int.from_bytes(data[start:end], "little", signed=True))
                                pos = end
                                op = data[pos]
                                continue
                            elif op == 0x81:  # NEWOBJ
                                value = stack.pop()
                                function = stack[-1]
                                if type(function) is Global and type(value) is tuple:
                                    call = new(Call)
                                    call.function, call.args, call.kwargs, call.how = function, value, NOTHING, "newobj"
                                    call.offset = base + pos
                                    call.state = call.grown = None
                                    record(call)
                                    stack[-1] = value = call
                                else:
                                    stack[-1] = value = self.call(function, value, pos, "newobj")
                                made += 1
                                pos += 1
                            else:
                                self.stack = stack
                                pos = COLD[op](self, pos, pos + 1)
                                stack = self.stack
                                made += 1
                                if pos > size:
                                    break
                                op = data[pos]
                                continue
                        elif middle[op]:
                            if op == 0x68:  # BINGET
                                value = memo[data[pos + 1]]
                                if value is HOLE:
                                    self.hole(pos + 2)
                                stack.append(value)
                                pos += 2
                                op = data[pos]
                                continue
                            if op == 0x7D:  # EMPTY_DICT
                                value = {}
                                stack.append(value)
                                made += 1
                                pos += 1
                            elif op == 0x75:  # SETITEMS
                                items = stack
                                stack = meta.pop()
                                target = stack[-1]
                                if type(target) is dict and len(items) <= 16 and not len(items) & 1:
                                    pairs = iter(items)
                                    for name in pairs:
                                        if type(name) is not str:
                                            store(self, target, items)
                                            break
                                        target[name] = next(pairs)
                                else:
                                    store(self, target, items)
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x65:  # APPENDS
                                items = stack
                                stack = meta.pop()
                                target = stack[-1]
                                if type(target) is list:
                                    target.extend(items)
                                else:
                                    self.append_to(target, items)
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x61:  # APPEND
                                value = stack.pop()
                                target = stack[-1]
                                if type(target) is list:
                                    target.append(value)
                                else:
                                    self.append_to(target, [value])
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x73:  # SETITEM
                                value = stack.pop()
                                name = stack.pop()
                                target = stack[-1]
                                if type(target) is dict and type(name) is str:
                                    target[name] = value
                                else:
                                    store_one(self, target, name, value)
                                pos += 1
                                op = data[pos]
                                continue
                            elif op == 0x74:  # TUPLE
                                value = tuple(stack)
                                stack = meta.pop()
                                stack.append(value)
                                made += 1
                                pos += 1
                            elif op == 0x67:  # GET
                                end = ends[turn]
                                if end < pos:
                                    turn = self.seek_line(ends, turn, pos)
                                    end = ends[turn]
                                turn += 1
                                index = int(text[pos + 1 : end])
                                value = memo[index] if 0 <= index < len(memo) else HOLE
                                stack.append(self.get(index) if value is HOLE else value)
                                pos = end + 1
                                op = data[pos]
                                continue
                            elif op == 0x6A:  # LONG_BINGET
                                end = pos + 5
                                if end > size:
                                    self.more(pos, end)
                                index = u4(data, pos + 1)[0]
                                value = memo[index] if index < len(memo) else HOLE
                                stack.append(self.get(index) if value is HOLE else value)
                                pos = end
                                op = data[pos]
                                continue
                            elif op == 0x71 or op == 0x72 or op == 0x70:  # noqa: PLR1714 - a set costs a hash
                                # BINPUT, LONG_BINPUT, PUT of something else than what was put on top just now
                                if op == 0x70:
                                    end = ends[turn]
                                    if end < pos:
                                        turn = self.seek_line(ends, turn, pos)
                                        end = ends[turn]
                                    turn += 1
                                    index = int(text[pos + 1 : end])
                                    end += 1
                                else:
                                    end = pos + (2 if op == 0x71 else 5)
                                    if end > size:
                                        self.more(pos, end)
                                    index = data[pos + 1] if op == 0x71 else u4(data, pos + 1)[0]
                                if index == len(memo) and not holes:
                                    remember(stack[-1])
                                elif 0 <= index < len(memo) and not holes:
                                    memo[index] = stack[-1]
                                else:
                                    holes = self.put(index, stack[-1])
                                pos = end
                                op = data[pos]
                                continue
                            elif op == 0x62:  # BUILD
                                value = stack.pop()
                                target = stack[-1]
                                at, pos = pos, pos + 1
                                if type(target) is not Call and not isinstance(target, Symbol):
                                    self.build_on(target, value, at)
                                else:
                                    if target.state is None:
                                        target.state = value
                                    else:
                                        self.grow(target)
                                        target.build(value)
                                    if on_build is not None and type(target) is Call:
                                        onward = on_build(target, base + pos)
                                        if onward is not None:
                                            self.jump(onward, base + pos)
                                            if self.fence:
                                                self.leave_frame(pos)
                                            pos = onward - base
                                            if pos > size:
                                                break
                                op = data[pos]
                                continue
                            else:
                                self.stack = stack
                                pos = COLD[op](self, pos, pos + 1)
                                stack = self.stack
                                made += 1
                                if pos > size:
                                    break
                                op = data[pos]
                                continue
                        elif op == 0x4B:  # BININT1
                            stack.append(data[pos + 1])
                            pos += 2
                            op = data[pos]
                            continue
                        elif op == 0x28:  # MARK
                            meta.append(stack)
                            stack = []
                            pos += 1
                            op = data[pos]
                            continue
                        elif op == 0x58:  # BINUNICODE
                            start = pos + 5
                            end = start + u4(data, pos + 1)[0]
                            if end > size:
                                if start > size:
                                    self.more(pos, start)
                                if end - start > longest:
                                    raise Fault(
                                        f"text of {end - start:,} bytes, at most {longest:,} are read", limit=True
                                    )
                                self.more(pos, end)
                            value = text[start:end]
                            if not value.isascii():
                                value = str(data[start:end], "utf-8", "surrogatepass")
                            stack.append(value)
                            pos = end
                        elif op == 0x4E:  # NONE
                            stack.append(None)
                            pos += 1
                            op = data[pos]
                            continue
                        elif op == 0x46:  # FLOAT
                            end = ends[turn]
                            if end < pos:
                                turn = self.seek_line(ends, turn, pos)
                                end = ends[turn]
                            turn += 1
                            if data[end + 1] == 0x61 and data[end + 2] == 0x46 and stack and type(stack[-1]) is list:
                                run = _FLOAT_APPENDS.match(data, pos, size)
                                if run:
                                    values = [*map(float, data[pos + 1 : run.end() - 2].split(b"\naF"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    pos = run.end()
                                    op = data[pos]
                                    continue
                            raw = data[pos + 1 : end]
                            stack.append(real(raw) if 0 in raw else float(raw))
                            pos = end + 1
                            op = data[pos]
                            continue
                        elif op == 0x47:  # BINFLOAT
                            end = pos + 9
                            if end > size:
                                self.more(pos, end)
                            if data[end] == 0x47 and data[end + 9] == 0x47:
                                run = _BINFLOATS.match(data, pos, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_F8.iter_unpack(data[pos:end])])
                                count += (end - pos) // 9 - 1
                            else:
                                stack.append(f8(data, pos + 1)[0])
                            pos = end
                            op = data[pos]
                            continue
                        elif op == 0x4D:  # BININT2
                            end = pos + 3
                            if end > size:
                                self.more(pos, end)
                            if data[end] == 0x4D and data[end + 3] == 0x4D:
                                run = _BININT2S.match(data, pos, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_U2.iter_unpack(data[pos:end])])
                                count += (end - pos) // 3 - 1
                            else:
                                stack.append(u2(data, pos + 1)[0])
                            pos = end
                            op = data[pos]
                            continue
                        elif op == 0x4A:  # BININT
                            end = pos + 5
                            if end > size:
                                self.more(pos, end)
                            if data[end] == 0x4A and data[end + 5] == 0x4A:
                                run = _BININTS.match(data, pos, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_I4.iter_unpack(data[pos:end])])
                                count += (end - pos) // 5 - 1
                            else:
                                stack.append(i4(data, pos + 1)[0])
                            pos = end
                            op = data[pos]
                            continue
                        elif op == 0x52:  # REDUCE
                            value = stack.pop()
                            function = stack[-1]
                            if type(function) is Global and type(value) is tuple:
                                call = new(Call)  # what its constructor does, at two thirds of the cost
                                call.function, call.args, call.kwargs, call.how = function, value, NOTHING, "reduce"
                                call.offset = base + pos
                                call.state = call.grown = None
                                record(call)
                                stack[-1] = value = call
                            else:
                                stack[-1] = value = self.call(function, value, pos, "reduce")
                            made += 1
                            pos += 1
                        elif op == 0x5D:  # EMPTY_LIST
                            if pos >= retry and not holes:
                                found = constants(data, pos, size)
                                patience = (
                                    0 if found and len(found.values) >= ENOUGH else min(2 * patience + 64, 1 << 16)
                                )
                                retry = pos + patience
                                if found:
                                    stack += found.values
                                    memo += found.memoized
                                    made += found.lists
                                    count += found.opcodes - 1
                                    pos = found.end
                                    op = data[pos]
                                    continue
                            value = []
                            stack.append(value)
                            made += 1
                            pos += 1
                        elif op == 0x29:  # EMPTY_TUPLE
                            stack.append(())
                            pos += 1
                            op = data[pos]
                            continue
                        elif op == 0x43 or op == 0x42:  # noqa: PLR1714 - a set costs a hash: SHORT_BINBYTES, BINBYTES
                            start = pos + (2 if op == 0x43 else 5)
                            if start > size:
                                self.more(pos, start)
                            end = start + (data[pos + 1] if op == 0x43 else u4(data, pos + 1)[0])
                            if end - start > inline:
                                self.jump(base + end, base + start)
                                value = Blob(base + start, end - start)
                                stack.append(value)
                                pos = end
                                if pos > size:
                                    break
                            else:
                                if end > size:
                                    self.more(pos, end)
                                value = data[start:end]
                                if end - start <= 8 and end + 17 <= size and not holes and len(stack) > 1:
                                    known = len(memo)
                                    function = stack[-2]
                                    if type(function) is not Global:
                                        after = 0
                                    elif data[end : end + 5] == b"\x94\x86\x94R\x94":
                                        after = end + 5
                                    elif data[end] == 0x72 and puts(data, end) == (
                                        0x72, known, 0x86, 0x72, known + 1, 0x52, 0x72, known + 2,
                                    ):  # fmt: skip
                                        after = end + 17
                                    else:
                                        after = 0
                                    if after:  # a whole NumPy scalar: its function, dtype and bytes
                                        args = (stack.pop(), value)
                                        call = new(Call)
                                        call.function, call.args, call.kwargs, call.how = (
                                            function,
                                            args,
                                            NOTHING,
                                            "reduce",
                                        )
                                        call.offset = base + end + (3 if after == end + 5 else 11)
                                        call.state = call.grown = None
                                        memo += (value, args, call)
                                        record(call)
                                        stack[-1] = call
                                        count += 5
                                        made += 2
                                        pos = after
                                        if pos >= resume:
                                            taken, steps, pos = self.take_scalars(pos, stack)
                                            pause = 0 if taken >= ENOUGH else min(2 * pause + 64, 1 << 16)
                                            resume = pos + pause
                                            count += steps
                                            made += 2 * taken
                                        op = data[pos]
                                        continue
                                if end - start > 8 or data[end] != 0x94 or data[end + 1] != 0x86:
                                    value = Bytes(value)
                                    value.offset = base + start
                                    made += 2
                                stack.append(value)
                                pos = end
                        elif op == 0x49:  # INT
                            end = ends[turn]
                            if end < pos:
                                turn = self.seek_line(ends, turn, pos)
                                end = ends[turn]
                            turn += 1
                            if data[end + 1] == 0x61 and data[end + 2] == 0x49 and stack and type(stack[-1]) is list:
                                run = _INT_APPENDS.match(data, pos, size)
                                if run:
                                    values = [*map(int, text[pos + 1 : run.end() - 2].split("\naI"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    pos = run.end()
                                    op = data[pos]
                                    continue
                            value = text[pos + 1 : end]
                            digits = value[1:] if value[:1] == "-" else value
                            if digits.isdecimal() and digits[0] != "0":
                                stack.append(int(value))
                            else:
                                stack.append(value == "01" if value in booleans else number(data[pos + 1 : end]))
                            pos = end + 1
                            op = data[pos]
                            continue
                        elif op == 0x56 or op == 0x53:  # noqa: PLR1714 - same: UNICODE, STRING
                            end = ends[turn]
                            if end < pos:
                                turn = self.seek_line(ends, turn, pos)
                                end = ends[turn]
                            turn += 1
                            value = text[pos + 1 : end]
                            if op == 0x56:
                                if "\\" in value:
                                    value = raw_unicode_escape_decode(data[pos + 1 : end])[0]
                            elif (
                                value[:1] == "'" == value[-1:]
                                and end > pos + 2
                                and "\\" not in value
                                and value.isascii()
                            ):
                                value = value[1:-1]
                            else:
                                value = quoted(data[pos + 1 : end])
                            stack.append(value)
                            pos = end + 1
                        elif op == 0x2E:  # STOP
                            value = stack.pop()
                            pos += 1
                            return value
                        elif op == 0:  # the padding after the chunk, or a foreign byte in it
                            count -= 1
                            if pos < size:
                                raise Fault("0x00 is not an instruction")
                            if pos > size:  # the padding served as the argument of a BININT1 or BINGET: take it back
                                stack.pop()
                                pos = size - 1
                                self.more(pos, size + 1)
                            break
                        else:
                            self.stack = stack
                            pos = COLD[op](self, pos, pos + 1)
                            stack = self.stack
                            made += 1
                            if pos > size:
                                break
                            op = data[pos]
                            continue

                        # a value was put on top of the stack, and most likely goes into the memo
                        op = data[pos]
                        if op == 0x94:
                            if not holes:
                                remember(value)
                                count += 1
                                pos += 1
                                op = data[pos]
                        elif op == 0x71:
                            if data[pos + 1] == len(memo) and not holes and pos + 2 <= size:
                                remember(value)
                                count += 1
                                pos += 2
                                op = data[pos]
                        elif op == 0x72:
                            if not holes and pos + 5 <= size and u4(data, pos + 1)[0] == len(memo):
                                remember(value)
                                count += 1
                                pos += 5
                                op = data[pos]
                        elif op == 0x70 and not holes and ends[turn] > pos:
                            end = ends[turn]
                            if int(text[pos + 1 : end]) == len(memo):
                                remember(value)
                                count += 1
                                turn += 1
                                pos = end + 1
                                op = data[pos]
                except More as more:
                    pos, want = more.at, more.size
                    count -= 1
                self.stack = stack
        except Fault:
            raise
        except IndexError:
            raise Fault("an instruction takes more than the stack or the memo holds") from None
        except KeyError as error:
            raise Fault(f"memo entry {error.args[0]} was never stored") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise Fault(str(error).splitlines()[0][:120] or "a value is malformed") from None
        finally:
            self.opcodes, self.made = count, made
            self.at = self.base + max(0, min(pos, self.size - 1))
            self.end = min(self.base + pos, self.window.size)
