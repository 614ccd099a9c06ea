"""The virtual machine of pickle, run symbolically: the hot loop.

Semantics are those of CPython's C unpickler (``Modules/_pickle.c``), which is more lenient than ``pickletools``:
numbers in base 0, frames that lie, MEMOIZE that counts entries, marks that fence the stack. Rare opcodes are in
``opcodes``.

Rule for editors: nothing is imported, called or compared by the stream's wish; no Python recursion; work and memory
per opcode are constant except where the bytes of the argument pay for it. Limits are checked once per chunk of input,
so a chunk's worth of opcodes is the granularity.

How it is fast: the chunk is walked by a bytes iterator, which costs a third of indexing; only opcodes with longer
arguments ask it where it stands (its length hint) and move it on (its state). Text is cut from a Latin-1 copy of
the chunk and decoded properly only when it is not ASCII. Runs of equal opcodes are taken whole. Zero bytes after the
chunk are no opcode and so mark its end.
"""

from __future__ import annotations

import re
import struct
from codecs import raw_unicode_escape_decode
from collections.abc import Callable
from typing import Any

from assay.containers.pickle.opcodes import COLD, number, quoted, real
from assay.containers.pickle.stream import HOLE, Fault, More, Stream, store, store_one
from assay.containers.pickle.values import NOTHING, Blob, Bytes, Call, Global, Symbol

_FLOAT_APPENDS = re.compile(rb"(?:F[-+.0-9e]++\na)++")
_INT_APPENDS = re.compile(rb"(?:I(?:-?[1-9][0-9]{0,17}+|0)\na)++")
_BINFLOATS = re.compile(rb"(?:G.{8})++", re.DOTALL)
_BININT2S = re.compile(rb"(?:M..)++", re.DOTALL)
_BININTS = re.compile(rb"(?:J.{4})++", re.DOTALL)

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
        (measured: three times the total), so the frequent opcodes stand here, and everything rare is a function
        called through ``COLD``.

        Raises:
            Fault: the stream breaks a rule of the machine, or a limit; what was understood stays in the attributes.
        """
        memo, meta, calls, called = self.memo, self.meta, self.calls, self.called
        remember, new = memo.append, object.__new__
        inline, longest = self.limits.inline, self.limits.text
        pos = want = count = made = holes = total = 0
        hint: Callable[[], int] = int
        value: Any
        try:
            while True:
                self.opcodes, self.made = count, made
                self.load(self.base + pos, want)
                pos = want = total = 0
                hint = int
                self.check()
                data, size, base, stack = self.data, self.size, self.base, self.stack
                text = data.decode("latin-1")
                total = len(data)
                walk = iter(data)
                hint, seek = walk.__length_hint__, walk.__setstate__  # type: ignore[attr-defined]  # not in typeshed
                try:
                    for op in walk:
                        count += 1
                        if op >= 0x80:
                            if op == 0x94:  # MEMOIZE
                                if holes:
                                    self.memoize(stack[-1])
                                else:
                                    remember(stack[-1])
                            elif op == 0x8C:  # SHORT_BINUNICODE, nearly always followed by MEMOIZE
                                start = total - hint() + 1
                                while True:
                                    end = start + data[start - 1]
                                    if end > size:
                                        self.more(start - 2, end)
                                    value = text[start:end]
                                    if not value.isascii():
                                        value = str(data[start:end], "utf-8", "surrogatepass")
                                    stack.append(value)
                                    if data[end] == 0x94 and not holes:
                                        remember(value)
                                        end += 1
                                        count += 1
                                    follower = data[end]  # of a key most often a small integer, or the next key
                                    if follower == 0x4B and end + 2 <= size:
                                        stack.append(data[end + 1])
                                        end += 2
                                        count += 1
                                        follower = data[end]
                                    elif follower == 0x4D and end + 3 <= size:
                                        stack.append(data[end + 1] | data[end + 2] << 8)
                                        end += 3
                                        count += 1
                                        follower = data[end]
                                    if follower != 0x8C:
                                        break
                                    start = end + 2
                                    count += 1
                                seek(end)
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
                            elif op == 0x87:  # TUPLE3
                                third = stack.pop()
                                value = stack.pop()
                                stack[-1] = (stack[-1], value, third)
                                made += 1
                            elif op == 0x8A:  # LONG1
                                pos = total - hint()
                                end = pos + 1 + data[pos]
                                if end > size:
                                    self.more(pos - 1, end)
                                stack.append(int.from_bytes(data[pos + 1 : end], "little", signed=True))
                                seek(end)
                            elif op == 0x81:  # NEWOBJ
                                value = stack.pop()
                                stack[-1] = self.call(stack[-1], value, total - hint() - 1, "newobj")
                                made += 1
                            else:
                                self.stack = stack
                                pos = total - hint()
                                pos = COLD[op](self, pos - 1, pos)
                                stack = self.stack
                                made += 1
                                if pos > size:
                                    break
                                seek(pos)
                        elif op >= 0x60:
                            if op == 0x68:  # BINGET
                                value = memo[next(walk)]
                                if value is HOLE:
                                    self.hole(total - hint())
                                stack.append(value)
                            elif op == 0x71:  # BINPUT
                                pos = total - hint()
                                if pos >= size:
                                    self.more(pos - 1, pos + 1)
                                index = next(walk)
                                if index == len(memo) and not holes:
                                    remember(stack[-1])
                                else:
                                    holes = self.put(index, stack[-1])
                            elif op == 0x61:  # APPEND
                                value = stack.pop()
                                target = stack[-1]
                                if type(target) is list:
                                    target.append(value)
                                else:
                                    self.append_to(target, [value])
                            elif op == 0x73:  # SETITEM
                                value = stack.pop()
                                name = stack.pop()
                                target = stack[-1]
                                if type(target) is dict and type(name) is str:
                                    target[name] = value
                                else:
                                    store_one(self, target, name, value)
                            elif op == 0x70:  # PUT
                                pos = total - hint()
                                end = text.find("\n", pos, size)
                                if end < 0:
                                    self.more_line(pos - 1)
                                index = int(text[pos:end])
                                if index == len(memo) and not holes:
                                    remember(stack[-1])
                                else:
                                    holes = self.put(index, stack[-1])
                                seek(end + 1)
                            elif op == 0x67:  # GET
                                pos = total - hint()
                                end = text.find("\n", pos, size)
                                if end < 0:
                                    self.more_line(pos - 1)
                                stack.append(self.get(int(text[pos:end])))
                                seek(end + 1)
                            elif op == 0x74:  # TUPLE
                                value = tuple(stack)
                                stack = meta.pop()
                                stack.append(value)
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
                                pos = total - hint()
                                if pos + 4 > size:
                                    self.more(pos - 1, pos + 4)
                                stack.append(self.get(_U4.unpack_from(data, pos)[0]))
                                seek(pos + 4)
                            elif op == 0x72:  # LONG_BINPUT
                                pos = total - hint()
                                if pos + 4 > size:
                                    self.more(pos - 1, pos + 4)
                                index = _U4.unpack_from(data, pos)[0]
                                if index == len(memo) and not holes:
                                    remember(stack[-1])
                                else:
                                    holes = self.put(index, stack[-1])
                                seek(pos + 4)
                            elif op == 0x62:  # BUILD
                                value = stack.pop()
                                target = stack[-1]
                                if not isinstance(target, Symbol):
                                    self.build_on(target, value, total - hint() - 1)
                                else:
                                    target.build(value)
                                    if on_build is not None and type(target) is Call:
                                        pos = total - hint()
                                        onward = on_build(target, base + pos)
                                        if onward is not None:
                                            self.jump(onward, base + pos)
                                            pos = onward - base
                                            if pos > size:
                                                break
                                            seek(pos)
                            else:
                                self.stack = stack
                                pos = total - hint()
                                pos = COLD[op](self, pos - 1, pos)
                                stack = self.stack
                                made += 1
                                if pos > size:
                                    break
                                seek(pos)
                        elif op == 0x4B:  # BININT1
                            stack.append(next(walk))
                        elif op == 0x4E:  # NONE
                            stack.append(None)
                        elif op == 0x28:  # MARK
                            meta.append(stack)
                            stack = []
                        elif op == 0x46:  # FLOAT
                            pos = total - hint()
                            end = text.find("\n", pos, size)
                            if end < 0:
                                self.more_line(pos - 1)
                            if data[end + 1] == 0x61 and data[end + 2] == 0x46 and stack and type(stack[-1]) is list:
                                run = _FLOAT_APPENDS.match(data, pos - 1, size)
                                if run:
                                    values = [*map(float, data[pos : run.end() - 2].split(b"\naF"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    seek(run.end())
                                    continue
                            stack.append(real(data[pos:end]))
                            seek(end + 1)
                        elif op == 0x47:  # BINFLOAT
                            pos = total - hint()
                            end = pos + 8
                            if end > size:
                                self.more(pos - 1, end)
                            if data[end] == 0x47 and data[end + 9] == 0x47:
                                run = _BINFLOATS.match(data, pos - 1, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_F8.iter_unpack(data[pos - 1 : end])])
                                count += (end - pos) // 9
                            else:
                                stack.append(_F8.unpack_from(data, pos)[0])
                            seek(end)
                        elif op == 0x58:  # BINUNICODE
                            pos = total - hint()
                            if pos + 4 > size:
                                self.more(pos - 1, pos + 4)
                            start = pos + 4
                            end = start + _U4.unpack_from(data, pos)[0]
                            if end > size:
                                if end - start > longest:
                                    raise Fault(
                                        f"text of {end - start:,} bytes, at most {longest:,} are read", limit=True
                                    )
                                self.more(pos - 1, end)
                            value = text[start:end]
                            if not value.isascii():
                                value = str(data[start:end], "utf-8", "surrogatepass")
                            stack.append(value)
                            # nearly always followed by BINPUT or LONG_BINPUT, in sequence
                            if data[end] == 0x72 and end + 5 <= size and not holes:
                                if _U4.unpack_from(data, end + 1)[0] == len(memo):
                                    remember(value)
                                    count += 1
                                    end += 5
                            elif data[end] == 0x71 and end + 2 <= size and not holes and data[end + 1] == len(memo):
                                remember(value)
                                count += 1
                                end += 2
                            seek(end)
                        elif op == 0x4D:  # BININT2
                            pos = total - hint()
                            end = pos + 2
                            if end > size:
                                self.more(pos - 1, end)
                            if data[end] == 0x4D and data[end + 3] == 0x4D:
                                run = _BININT2S.match(data, pos - 1, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_U2.iter_unpack(data[pos - 1 : end])])
                                count += (end - pos) // 3
                            else:
                                stack.append(data[pos] | data[pos + 1] << 8)
                            seek(end)
                        elif op == 0x4A:  # BININT
                            pos = total - hint()
                            end = pos + 4
                            if end > size:
                                self.more(pos - 1, end)
                            if data[end] == 0x4A and data[end + 5] == 0x4A:
                                run = _BININTS.match(data, pos - 1, size)
                                end = run.end() if run else end
                                stack.extend([value for (value,) in _OP_I4.iter_unpack(data[pos - 1 : end])])
                                count += (end - pos) // 5
                            else:
                                stack.append(_I4.unpack_from(data, pos)[0])
                            seek(end)
                        elif op == 0x52:  # REDUCE
                            value = stack.pop()
                            function = stack[-1]
                            if type(function) is Global and type(value) is tuple:
                                called.add(id(function))
                                call = new(Call)  # what its constructor does, at two thirds of the cost
                                call.function, call.args, call.kwargs, call.how = function, value, NOTHING, "reduce"
                                call.offset = base + total - hint() - 1
                                call.state = call.grown = None
                                calls.append(call)
                                stack[-1] = call
                            else:
                                stack[-1] = self.call(function, value, total - hint() - 1, "reduce")
                            made += 1
                        elif op == 0x5D:  # EMPTY_LIST
                            stack.append([])
                            made += 1
                        elif op == 0x29:  # EMPTY_TUPLE
                            stack.append(())
                        elif op == 0x43 or op == 0x42:  # noqa: PLR1714 - a set costs a hash: SHORT_BINBYTES, BINBYTES
                            pos = total - hint()
                            start = pos + (1 if op == 0x43 else 4)
                            if start > size:
                                self.more(pos - 1, start)
                            end = start + (data[pos] if op == 0x43 else _U4.unpack_from(data, pos)[0])
                            if end > size and end - start <= inline:
                                self.more(pos - 1, end)
                            if end - start > inline:
                                self.jump(base + end, base + pos)
                                stack.append(Blob(base + start, end - start))
                                if end > size:
                                    pos = end
                                    break
                            else:
                                value = data[start:end]
                                if (
                                    end - start > 8 or data[end] != 0x94 or data[end + 1] != 0x86
                                ):  # not a NumPy scalar's
                                    value = Bytes(value)
                                    value.offset = base + start
                                stack.append(value)
                                if data[end] == 0x94 and not holes:
                                    remember(value)
                                    end += 1
                                    count += 1
                            seek(end)
                        elif op == 0x49:  # INT
                            pos = total - hint()
                            end = text.find("\n", pos, size)
                            if end < 0:
                                self.more_line(pos - 1)
                            if data[end + 1] == 0x61 and data[end + 2] == 0x49 and stack and type(stack[-1]) is list:
                                run = _INT_APPENDS.match(data, pos - 1, size)
                                if run:
                                    values = [*map(int, text[pos : run.end() - 2].split("\naI"))]
                                    stack[-1].extend(values)
                                    count += 2 * len(values) - 1
                                    seek(run.end())
                                    continue
                            stack.append(number(data[pos:end]))
                            seek(end + 1)
                        elif op == 0x56 or op == 0x53:  # noqa: PLR1714 - same: UNICODE, STRING
                            pos = total - hint()
                            end = text.find("\n", pos, size)
                            if end < 0:
                                self.more_line(pos - 1)
                            value = text[pos:end]
                            if op == 0x56:
                                if "\\" in value:
                                    value = raw_unicode_escape_decode(data[pos:end])[0]
                            elif (
                                value[:1] == "'" == value[-1:]
                                and end > pos + 1
                                and "\\" not in value
                                and value.isascii()
                            ):
                                value = value[1:-1]
                            else:
                                value = quoted(data[pos:end])
                            stack.append(value)
                            seek(end + 1)
                        elif op == 0x2E:  # STOP
                            pos = total - hint()
                            return stack.pop()
                        elif op == 0:  # the padding after the chunk, or a foreign byte in it
                            pos = total - hint() - 1
                            count -= 1
                            if pos < size:
                                raise Fault("0x00 is not an instruction")
                            if pos > size:  # the padding served as the argument of a BININT1 or BINGET: take it back
                                stack.pop()
                                self.more(size - 1, size + 1)
                            break
                        else:
                            self.stack = stack
                            pos = total - hint()
                            pos = COLD[op](self, pos - 1, pos)
                            stack = self.stack
                            made += 1
                            if pos > size:
                                break
                            seek(pos)
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
            self.at = self.base + max(0, min(total - hint(), self.size) - 1)
            self.end = min(self.base + pos, self.window.size)
