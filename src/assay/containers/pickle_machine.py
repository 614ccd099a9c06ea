"""The virtual machine of pickle, run symbolically: the hot loop.

Semantics are those of CPython's C unpickler (``Modules/_pickle.c``), which is more lenient than ``pickletools``:
numbers in base 0, frames that lie, MEMOIZE that counts entries, marks that fence the stack. Rare opcodes are in
``pickle_opcodes``.

Rule for editors: nothing is imported, called or compared by the stream's wish; no Python recursion; work and memory
per opcode are constant except where the bytes of the argument pay for it. Limits are checked once per chunk of input,
so a chunk's worth of opcodes is the granularity.
"""

from __future__ import annotations

import re
import struct
from codecs import raw_unicode_escape_decode
from collections.abc import Callable
from typing import Any

from assay.containers.pickle_opcodes import COLD, number, quoted, real
from assay.containers.pickle_stream import Fault, More, Stream, store, store_one
from assay.containers.pickle_values import Blob, Bytes, Call, Global, Symbol

_FLOAT_APPENDS = re.compile(rb"(?:F-?[0-9]++(?:\.[0-9]*+)?(?:e[-+]?[0-9]++)?\na)++")
_INT_APPENDS = re.compile(rb"(?:I(?:-?[1-9][0-9]{0,17}+|0)\na)++")
_BINFLOATS = re.compile(rb"(?:G.{8})++", re.DOTALL)
_BININT1S = re.compile(rb"(?:K.)++", re.DOTALL)
_BININT2S = re.compile(rb"(?:M..)++", re.DOTALL)
_BININTS = re.compile(rb"(?:J.{4})++", re.DOTALL)
_BINGETS = re.compile(rb"(?:h.)++", re.DOTALL)

_F8 = struct.Struct(">d")
_I4 = struct.Struct("<i")
_U4 = struct.Struct("<I")
_OP_F8 = struct.Struct(">xd")
_OP_U2 = struct.Struct("<xH")
_OP_I4 = struct.Struct("<xi")


class Machine(Stream):
    """One symbolic run over one stream; ``run`` once."""

    def run(self, on_build: Callable[[Call, int], int | None] | None) -> Any:  # noqa: C901, PLR0912, PLR0915 - see below
        """Interpret opcodes up to STOP and return the value on top of the stack.

        The one function of the project that is long on purpose: a call per opcode would cost more than the opcode
        (measured: three times the total), so the frequent opcodes stand here in order of frequency, and runs of
        equal opcodes are taken whole. Everything rare is a method called through ``COLD``.

        Raises:
            Fault: the stream breaks a rule of the machine, or a limit; what was understood stays in the attributes.
        """
        memo = self.memo
        meta = self.meta
        calls = self.calls
        called = self.called
        inline, longest = self.limits.inline, self.limits.text
        pos = want = at = 0
        count = made = 0
        try:
            while True:
                self.opcodes, self.made = count, made
                self.load(self.base + pos, want)
                pos = want = at = 0
                self.check()
                data, size, soft, base, stack = self.data, self.size, self.soft, self.base, self.stack
                try:
                    while pos < soft:
                        at = pos
                        op = data[pos]
                        pos += 1
                        count += 1
                        if op >= 0x80:
                            if op == 0x94:  # MEMOIZE
                                memo[len(memo)] = stack[-1]
                            elif op == 0x8C:  # SHORT_BINUNICODE, nearly always followed by MEMOIZE
                                end = pos + 1 + data[pos]
                                if end > size:
                                    self.more(at, end)
                                value = str(data[pos + 1 : end], "utf-8", "surrogatepass")
                                stack.append(value)
                                pos = end
                                if data[pos] == 0x94:
                                    memo[len(memo)] = value
                                    pos += 1
                                    count += 1
                            elif op == 0x86:  # TUPLE2
                                value = stack.pop()
                                stack[-1] = (stack[-1], value)
                                made += 1
                            elif op == 0x85:  # TUPLE1
                                stack[-1] = (stack[-1],)
                                made += 1
                            elif op == 0x88:  # NEWTRUE
                                stack.append(True)
                            elif op == 0x89:  # NEWFALSE
                                stack.append(False)
                            elif op == 0x8A:  # LONG1
                                end = pos + 1 + data[pos]
                                if end > size:
                                    self.more(at, end)
                                stack.append(int.from_bytes(data[pos + 1 : end], "little", signed=True))
                                pos = end
                            elif op == 0x81:  # NEWOBJ
                                args = stack.pop()
                                stack[-1] = self.call(stack[-1], args, at, "newobj")
                                made += 1
                            elif op == 0x87:  # TUPLE3
                                third = stack.pop()
                                value = stack.pop()
                                stack[-1] = (stack[-1], value, third)
                                made += 1
                            else:
                                self.stack = stack
                                pos = COLD[op](self, at, pos)
                                made += 1
                                stack = self.stack
                        elif op >= 0x60:
                            if op == 0x68:  # BINGET
                                if data[pos + 1] == 0x68 and data[pos + 3] == 0x68:
                                    pos = _BINGETS.match(data, at, size).end()  # type: ignore[union-attr]  # matches h.
                                    stack.extend([memo[index] for index in data[at + 1 : pos : 2]])
                                    count += (pos - at) // 2 - 1
                                else:
                                    stack.append(memo[data[pos]])
                                    pos += 1
                            elif op == 0x61:  # APPEND
                                value = stack.pop()
                                target = stack[-1]
                                if type(target) is list:
                                    target.append(value)
                                else:
                                    self.append_to(target, [value])
                            elif op == 0x71:  # BINPUT
                                memo[data[pos]] = stack[-1]
                                pos += 1
                            elif op == 0x73:  # SETITEM
                                value = stack.pop()
                                name = stack.pop()
                                target = stack[-1]
                                if type(target) is dict and type(name) is str:
                                    target[name] = value
                                else:
                                    store_one(self, target, name, value)
                            elif op == 0x70:  # PUT
                                end = data.find(b"\n", pos, size)
                                if end < 0:
                                    self.more_line(at)
                                memo[int(data[pos:end])] = stack[-1]
                                pos = end + 1
                            elif op == 0x67:  # GET
                                end = data.find(b"\n", pos, size)
                                if end < 0:
                                    self.more_line(at)
                                stack.append(memo[int(data[pos:end])])
                                pos = end + 1
                            elif op == 0x74:  # TUPLE
                                items = stack
                                stack = meta.pop()
                                stack.append(tuple(items))
                                made += 1
                            elif op == 0x75:  # SETITEMS
                                items = stack
                                stack = meta.pop()
                                store(self, stack[-1], items)
                            elif op == 0x65:  # APPENDS
                                items = stack
                                stack = meta.pop()
                                target = stack[-1]
                                if type(target) is list:
                                    target.extend(items)
                                else:
                                    self.append_to(target, items)
                            elif op == 0x7D:  # EMPTY_DICT
                                stack.append({})
                                made += 1
                            elif op == 0x6A:  # LONG_BINGET
                                stack.append(memo[_U4.unpack_from(data, pos)[0]])
                                pos += 4
                            elif op == 0x72:  # LONG_BINPUT
                                memo[_U4.unpack_from(data, pos)[0]] = stack[-1]
                                pos += 4
                            elif op == 0x62:  # BUILD
                                state = stack.pop()
                                target = stack[-1]
                                if isinstance(target, Symbol):
                                    target.build(state)
                                    if on_build is not None and type(target) is Call:
                                        onward = on_build(target, base + pos)
                                        if onward is not None:
                                            self.jump(onward, base + pos)
                                            pos = onward - base
                                else:
                                    self.build_on(target, state, at)
                            else:
                                self.stack = stack
                                pos = COLD[op](self, at, pos)
                                made += 1
                                stack = self.stack
                        elif op == 0x4B:  # BININT1
                            if data[pos + 1] == 0x4B and data[pos + 3] == 0x4B:
                                pos = _BININT1S.match(data, at, size).end()  # type: ignore[union-attr]  # matches K.
                                stack.extend(data[at + 1 : pos : 2])
                                count += (pos - at) // 2 - 1
                            else:
                                stack.append(data[pos])
                                pos += 1
                        elif op == 0x28:  # MARK
                            meta.append(stack)
                            stack = []
                        elif op == 0x46:  # FLOAT
                            end = data.find(b"\n", pos, size)
                            if end < 0:
                                self.more_line(at)
                            if data[end + 1] == 0x61 and data[end + 2] == 0x46 and stack and type(stack[-1]) is list:
                                run = _FLOAT_APPENDS.match(data, at, size)
                                if run:
                                    values = [*map(float, data[pos : run.end() - 2].split(b"\naF"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    pos = run.end()
                                    continue
                            stack.append(real(data[pos:end]))
                            pos = end + 1
                        elif op == 0x47:  # BINFLOAT
                            if data[pos + 8] == 0x47 and data[pos + 17] == 0x47:
                                pos = _BINFLOATS.match(data, at, size).end()  # type: ignore[union-attr]  # matches G.
                                stack.extend([value for (value,) in _OP_F8.iter_unpack(data[at:pos])])
                                count += (pos - at) // 9 - 1
                            else:
                                stack.append(_F8.unpack_from(data, pos)[0])
                                pos += 8
                        elif op == 0x58:  # BINUNICODE
                            end = pos + 4 + _U4.unpack_from(data, pos)[0]
                            if end > size:
                                if end - pos > longest:
                                    raise Fault(
                                        f"text of {end - pos - 4:,} bytes, at most {longest:,} are read", limit=True
                                    )
                                self.more(at, end)
                            stack.append(str(data[pos + 4 : end], "utf-8", "surrogatepass"))
                            pos = end
                        elif op == 0x4D:  # BININT2
                            if data[pos + 2] == 0x4D and data[pos + 5] == 0x4D:
                                pos = _BININT2S.match(data, at, size).end()  # type: ignore[union-attr]  # matches M..
                                stack.extend([value for (value,) in _OP_U2.iter_unpack(data[at:pos])])
                                count += (pos - at) // 3 - 1
                            else:
                                stack.append(data[pos] | data[pos + 1] << 8)
                                pos += 2
                        elif op == 0x4A:  # BININT
                            if data[pos + 4] == 0x4A and data[pos + 9] == 0x4A:
                                pos = _BININTS.match(data, at, size).end()  # type: ignore[union-attr]  # matches J....
                                stack.extend([value for (value,) in _OP_I4.iter_unpack(data[at:pos])])
                                count += (pos - at) // 5 - 1
                            else:
                                stack.append(_I4.unpack_from(data, pos)[0])
                                pos += 4
                        elif op == 0x52:  # REDUCE
                            args = stack.pop()
                            function = stack[-1]
                            if type(function) is Global and type(args) is tuple:
                                called.add(id(function))
                                value = Call(function, args, None, base + at)
                                calls.append(value)
                                stack[-1] = value
                            else:
                                stack[-1] = self.call(function, args, at, "reduce")
                            made += 1
                        elif op == 0x4E:  # NONE
                            stack.append(None)
                        elif op == 0x5D:  # EMPTY_LIST
                            stack.append([])
                            made += 1
                        elif op == 0x29:  # EMPTY_TUPLE
                            stack.append(())
                        elif op == 0x43 or op == 0x42:  # noqa: PLR1714 - a set costs a hash: SHORT_BINBYTES, BINBYTES
                            if op == 0x43:
                                start = pos + 1
                                end = start + data[pos]
                            else:
                                start = pos + 4
                                end = start + _U4.unpack_from(data, pos)[0]
                            if end > size:
                                if end - start <= inline:
                                    self.more(at, end)
                                self.jump(base + end, base + pos)
                            if end - start > inline:
                                stack.append(Blob(base + start, end - start))
                            else:
                                value = Bytes(data[start:end])
                                value.offset = base + start
                                stack.append(value)
                            pos = end
                        elif op == 0x49:  # INT
                            end = data.find(b"\n", pos, size)
                            if end < 0:
                                self.more_line(at)
                            if data[end + 1] == 0x61 and data[end + 2] == 0x49 and stack and type(stack[-1]) is list:
                                run = _INT_APPENDS.match(data, at, size)
                                if run:
                                    values = [*map(int, data[pos : run.end() - 2].split(b"\naI"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    pos = run.end()
                                    continue
                            stack.append(number(data[pos:end]))
                            pos = end + 1
                        elif op == 0x56 or op == 0x53:  # noqa: PLR1714 - same: UNICODE, STRING
                            end = data.find(b"\n", pos, size)
                            if end < 0:
                                self.more_line(at)
                            value = raw_unicode_escape_decode(data[pos:end])[0] if op == 0x56 else quoted(data[pos:end])
                            stack.append(value)
                            pos = end + 1
                        elif op == 0x2E:  # STOP
                            return stack.pop()
                        else:
                            self.stack = stack
                            pos = COLD[op](self, at, pos)
                            made += 1
                            stack = self.stack
                except More as more:
                    pos = at
                    count -= 1
                    want = more.size
                self.stack = stack
        except Fault:
            raise
        except IndexError:
            raise Fault("an instruction takes more values than the stack holds") from None
        except KeyError as error:
            raise Fault(f"memo entry {error.args[0]!r} was never stored") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise Fault(str(error).splitlines()[0][:120] or "a value is malformed") from None
        finally:
            self.opcodes, self.made, self.end = count, made, self.base + pos
            self.at = self.base + at
