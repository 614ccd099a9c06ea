"""The symbolic pickle machine: what a stream means, without executing it."""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers.pickle import stream as pickle_stream
from assay.containers.pickle.machine import Machine
from assay.containers.pickle.parse import (
    Blob,
    Call,
    Global,
    Limits,
    Opaque,
    Parsed,
    Persistent,
    Unknown,
    looks_like_pickle,
    parse,
    payload,
)
from assay.errors import AssayError, BadFormat
from assay.spec.finding import Severity
from assay.trees import BytesWindow, FileWindow

PROTOCOLS = range(6)


def run(data: bytes, **options: object) -> Parsed:
    return parse(BytesWindow(data, "model.pkl"), **options)  # type: ignore[arg-type]


def rules(parsed: Parsed) -> list[str]:
    return [finding.rule for finding in parsed.findings]


atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.text(alphabet="a\\'\"\n\r\t é漢\U0001f600", max_size=20)
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.text(max_size=20) | st.integers(0, 9), inner, max_size=8)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=60,
)


@given(value=values, protocol=st.sampled_from(PROTOCOLS), numbers=st.lists(st.integers(0, 1 << 33), max_size=40))
@settings(deadline=None, max_examples=200)
def test_a_pickle_of_plain_values_means_these_values(value: object, protocol: int, numbers: list[int]) -> None:
    value = [value, numbers, [number / 7 for number in numbers], [number % 300 for number in numbers]]
    data = pickle.dumps(value, protocol)

    parsed = run(data)

    assert parsed.value == value
    assert repr(parsed.value) == repr(value)
    assert parsed.complete
    assert parsed.end == len(data)
    assert parsed.opcodes == sum(1 for _ in pickletools.genops(data))
    assert not parsed.globals


@pytest.mark.parametrize("chunk", [64, 65, 67, 71, 83, 101, 128])
def test_where_the_input_is_cut_into_chunks_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    value = [{f"k{i}é": (i, float(i), -i, 1 << (i % 80)), "t": "x" * (i % 90), i: None} for i in range(60)]
    value.append({"floats": [i / 3 for i in range(70)], "small": [i % 256 for i in range(70)], "b": b"y" * 200})
    monkeypatch.setattr(pickle_stream, "CHUNK", chunk)

    for protocol in PROTOCOLS:
        data = pickle.dumps(value, protocol)
        parsed = run(data)
        assert parsed.complete, parsed.findings
        assert parsed.opcodes == sum(1 for _ in pickletools.genops(data))
        if protocol > 2:
            assert parsed.value == value


_SCALAR = b"C\x08%b\x94\x86\x94R\x94"
_NAMES = b"\x80\x04cnumpy\nscalar\n\x94cnumpy\ndtype\n\x94"


@pytest.mark.parametrize("chunk", [64, 333, 1 << 20])
@pytest.mark.parametrize("key", [b"", b"\x8c\x03k%02d\x94", b"K%b"])
@pytest.mark.parametrize("names", [b"h\x00h\x01", b"j\0\0\0\0h\x01", b"h\x00j\x01\0\0\0", b"j\0\0\0\0j\x01\0\0\0"])
def test_a_run_of_numpy_scalars_means_what_its_instructions_mean_one_by_one(
    names: bytes, key: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_stream, "CHUNK", chunk)
    body = b"".join(
        (key % (i if b"d" in key else bytes([i])) if key else b"") + names + _SCALAR % struct.pack("<q", i)
        for i in range(90)
    )
    data = _NAMES + b"(" + body + b"l."

    parsed = run(data)

    assert parsed.complete, parsed.findings
    instructions = [*pickletools.genops(data)]
    assert parsed.opcodes == len(instructions)
    assert [call.offset for call in parsed.calls] == [at for op, _, at in instructions if op.name == "REDUCE"]
    calls = parsed.value[1::2] if key else parsed.value
    assert all(a is b for a, b in zip(calls, parsed.calls, strict=True))
    assert [call.args for call in calls] == [(Global("numpy", "dtype"), struct.pack("<q", i)) for i in range(90)]
    if key:
        assert parsed.value[::2] == [f"k{i:02}" if b"d" in key else i for i in range(90)]
    memoized = 4 if b"d" in key else 3
    for entry, expected in ((memoized * 50 + 1, "call"), (memoized * 50, "args")):
        shared = run(data[:-1] + b"0j" + struct.pack("<I", entry) + b".").value
        assert shared == calls[49].args if expected == "args" else isinstance(shared, Call)


def test_a_broken_text_in_a_run_of_constants_is_named_where_it_lies() -> None:
    data = b"\x80\x04(" + b"\x8c\x02ab\x94K\x01" * 30 + b"\x8c\x02\xff\xff\x94" + b"K\x01" * 30 + b"l."

    parsed = run(data)

    assert parsed.findings[0].rule == "pickle-broken"
    assert parsed.findings[0].offset == data.index(b"\xff") - 2
    assert parsed.opcodes == sum(1 for _, _, at in pickletools.genops(data[: data.index(b"\x8c\x02\xff")] + b"."))


def test_sharing_and_cycles_are_visible_as_identity() -> None:
    shared: list[object] = [1]
    shared.append(shared)

    for protocol in PROTOCOLS:
        first, second, loop = run(pickle.dumps([shared, shared, {"again": shared}], protocol)).value
        assert first is second
        assert first[1] is first
        assert loop["again"] is first


def test_nothing_is_called_and_every_call_is_known() -> None:
    data = b"cos\nsystem\n(S'touch /tmp/assay-was-here'\ntR."

    parsed = run(data)

    assert isinstance(parsed.value, Call)
    assert parsed.value.function == Global("os", "system")
    assert parsed.value.args == ("touch /tmp/assay-was-here",)
    assert [(str(use.global_), use.offset, use.called) for use in parsed.globals] == [("os.system", 0, True)]
    assert not Path("/tmp/assay-was-here").exists()


def test_a_call_whose_result_is_thrown_away_is_still_known() -> None:
    parsed = run(b"cos\nsystem\n(S'x'\ntR0N.")

    assert parsed.value is None
    assert [str(call.function) for call in parsed.calls] == ["os.system"]


def test_a_global_that_is_only_named_is_not_reported_as_called() -> None:
    parsed = run(pickle.dumps([len, collections.OrderedDict(a=1)]))

    assert {str(use.global_): use.called for use in parsed.globals} == {
        "builtins.len": False,
        "collections.OrderedDict": True,
    }


def test_objects_keep_what_the_stream_does_to_them() -> None:
    ordered = collections.OrderedDict([("a", 1), ("b", 2)])
    deque = collections.deque([1, 2, 3])

    mapping, queue = run(pickle.dumps([ordered, deque], 4)).value

    assert dict(mapping.entries) == {"a": 1, "b": 2}
    assert list(queue.items) == [1, 2, 3]


def test_names_of_python_2_are_the_ones_that_would_be_imported() -> None:
    assert [str(use.global_) for use in run(b"c__builtin__\neval\n.").globals] == ["builtins.eval"]
    assert [str(use.global_) for use in run(b"\x80\x04c__builtin__\neval\n.").globals] == ["__builtin__.eval"]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"I0x1\n.", 1),
        (b"I010\n.", 8),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"I-0x10\n.", -16),
        (b"I1\0junk\n.", 1),
        (b"L0x1L\n.", 1),
        (b"L-5L\n.", -5),
        (b"F1.5\0junk\n.", 1.5),
        (b"Finf\n.", float("inf")),
        (b"S'caf\xc3\xa9'\n.", "café"),
        (b"S'a\\x41\\n\\101\\q'\n.", "aA\nA\\q"),
        (b'S"it\'s"\n.', "it's"),
        (b"Vcaf\xe9\\u6f22\n.", "café漢"),
        (b"\x80\x02\x8a\x00.", 0),
        (b"\x80\x02\x8a\x02\x00\x80.", -32768),
        (b"\x80\x02\x8b\x01\x00\x00\x00\x7f.", 127),
        (b"U\x03abc.", "abc"),
        (b"T\x03\x00\x00\x00abc.", "abc"),
        (b"\x80\x04\x8d\x03\0\0\0\0\0\0\0abc.", "abc"),
        (b"\x80\x05\x96\x03\0\0\0\0\0\0\0abc.", b"abc"),
        (b"(1N.", None),
        (b"N2\x86.", (None, None)),
        (b"((00N.", None),
        (b"(K\x01K\x02d.", {1: 2}),
        (b"(K\x01K\x02l.", [1, 2]),
        (b"\x80\x04(K\x01K\x02\x91.", frozenset({1, 2})),
        (b"\x80\x04\x8f(K\x01\x90.", {1}),
        (b"]K\x05aK\x00K\x07s.", [7]),
        (b"N\x80\x02.", None),
        (b"K\x01(e.", 1),
        (b"\x80\x04K\x01(\x90.", 1),
        (b"K\x01(u.", 1),
    ],
)
def test_opcodes_mean_what_the_c_unpickler_makes_of_them(stream: bytes, expected: object) -> None:
    parsed = run(stream)

    assert parsed.complete, parsed.findings
    assert parsed.value == expected
    assert type(parsed.value) is type(expected) or isinstance(parsed.value, bytes)


@pytest.mark.parametrize(
    "stream",
    [
        b"(Va\nVb\nK\x01q\x05q\x09h\x05h\x09t.",
        b"\x80\x04K\x01q\x05K\x02\x94K\x03\x94h\x01h\x05h\x02\x87.",
        b"\x80\x04K\x01r\xff\xff\xff\x7fK\x02\x94K\x03\x94h\x01j\xff\xff\xff\x7fh\x02\x87.",
        b"\x80\x04K\x01\x94K\x02q\x00K\x03\x94h\x00h\x01\x86.",
        b"\x80\x04K\x01q\x02K\x02\x94K\x03\x94h\x01h\x02\x86.",
        b"I1\np3\nI2\np0\ng3\ng0\n\x86.",
        b"\x80\x04K\x01q\x03K\x04q\x03K\x02\x94h\x01h\x03\x86.",
    ],
)
def test_the_memo_keeps_step_with_the_c_unpickler(stream: bytes) -> None:
    # The C unpickler would allocate 32 GB for the largest index; the one in Python counts entries the same way.
    load = pickle.loads if b"\x7f" not in stream else lambda data: pickle._Unpickler(io.BytesIO(data)).load()
    expected = load(stream)

    assert run(stream).value == expected


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"cos\nsystem\n(S'x'\ntRh\x05.", "stack or the memo"),
        (b"cos\nsystem\n(S'x'\ntRe.", "more than the stack"),
        (b"cos\nsystem\n(S'x'\ntR\xff", "not an instruction"),
        (b"cos\nsystem\n(S'x'\ntR\0", "not an instruction"),
        (b"cos\nsystem\n(S'x'\ntR", "without STOP"),
        (b"cos\nsystem\n(S'x'\ntRB\xff\xff\xff\x7f", "beyond the end"),
        (b"cos\nsystem\n(S'x'\ntR\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "beyond the end"),
        (b"cos\nsystem\n(S'x'\ntRX\xff\xff\xff\xffabc", "read"),
        (b"cos\nsystem\n(S'x'\ntRS'y\n.", "quotes"),
        (b"cos\nsystem\n(S'x'\ntRIxyz\n.", "invalid literal"),
        (b"cos\nsystem\n(S'x'\ntR}]Ns.", "cannot be a key"),
        (b"cos\nsystem\n(S'x'\ntRK\x01)R.", "int is called"),
        (b"cos\nsystem\n(S'x'\ntRNNa.", "appended to a NoneType"),
        (b"cos\nsystem\n(S'x'\ntR\x80\x06.", "protocol 6"),
        (b"cos\nsystem\n(S'x'\ntRK", "beyond the end"),
        (b"cos\nsystem\n(S'x'\ntRVabc", "line does not end"),
        (b"cos\nsystem\n(S'x'\ntRX\x04\0\0\0ab\xff\xfe.", "decode"),
    ],
)
def test_a_stream_that_breaks_keeps_everything_before_the_fault(stream: bytes, reason: str) -> None:
    parsed = run(stream)

    assert not parsed.complete
    assert [str(call.function) for call in parsed.calls] == ["os.system"]
    finding = parsed.findings[-1]
    assert finding.rule in {"pickle-broken", "pickle-limit"}
    assert finding.severity is Severity.INCOMPLETE
    assert reason in finding.message
    assert isinstance(parsed.value, Unknown)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"hello, world\n", b"\0\0\0\0", b"{}"])
def test_what_is_not_a_pickle_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat, match="not a pickle"):
        run(data)


def test_a_computed_global_name_is_a_finding_and_unknown() -> None:
    stream = b"\x80\x04c__main__\njoin\n\x8c\x02os\x85R\x8c\x06system\x93\x8c\x01x\x85R."

    parsed = run(stream)

    assert rules(parsed) == ["pickle-computed-global"]
    assert isinstance(parsed.value.function, Unknown)


def test_extension_codes_and_buffers_outside_are_findings() -> None:
    assert rules(run(b"\x80\x02\x82\x05)R.")) == ["pickle-extension"]
    assert rules(run(b"\x80\x05\x97.")) == ["pickle-out-of-band"]
    assert rules(run(b"cos\nenviron\n}Va\nVb\nsb.")) == ["pickle-changes-global"]


def test_a_lying_frame_is_reported_and_reading_goes_on() -> None:
    parsed = run(b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"K\x01.")

    assert parsed.value == 1
    assert rules(parsed) == ["pickle-frame"]


@pytest.mark.parametrize(
    ("stream", "length"),
    [
        (b"cos\nsystem\n)R.", 6),  # a reader of files goes on with the line "stem"
        (b"\x8c\x05words\x94.", 4),
        (b"B\x00\x10\x00\x00" + bytes(4096) + b".", 9),
        (b"K\x01K\x02\x86.", 3),
        (b"\x95\x04\x00\x00\x00\x00\x00\x00\x00K\x01\x85.", 11),
        (b"K\x01." + pickle.dumps(1, 4), 8),
    ],
    ids=["line", "text", "bytes", "argument", "frame in a frame", "beyond the stop"],
)
def test_a_frame_that_ends_inside_an_instruction_is_reported_and_reading_goes_on(stream: bytes, length: int) -> None:
    framed = run(b"\x80\x04\x95" + struct.pack("<Q", length) + stream)

    assert rules(framed) == ["pickle-frame"]
    assert framed.complete
    assert framed.opcodes == run(b"\x80\x04" + stream).opcodes + 1


def test_frames_of_honest_pickles_end_where_they_should() -> None:
    value = [[str(index), index, b"raw" * 9, float(index)] for index in range(30_000)] + [bytes(100_000), "ä" * 70_000]
    parsed = run(pickle.dumps(value, 4))
    assert rules(parsed) == []
    assert len(parsed.value) == len(value)
    assert parsed.value[:-2] == value[:-2]


def test_persistent_ids_keep_their_pid() -> None:
    text, binary = run(b"(Pabc\n(S'storage'\nI5\ntQl.").value

    assert isinstance(text, Persistent)
    assert text.pid == "abc"
    assert binary.pid == ("storage", 5)


def test_bytes_know_where_they_lie_and_long_ones_are_not_read() -> None:
    small, large = b"0123456789", bytes(3 << 20)
    data = pickle.dumps([small, large, "end"], 4)
    window = BytesWindow(data)

    parsed = parse(window)

    offset, length = payload(parsed.value[0]) or (0, 0)
    assert data[offset : offset + length] == small
    assert isinstance(parsed.value[1], Blob)
    offset, length = payload(parsed.value[1]) or (0, 0)
    assert data[offset : offset + length] == large
    assert parsed.value[2] == "end"
    assert window.budget.used < 2 << 20


def test_a_hook_moves_the_stream_past_foreign_bytes() -> None:
    def skip(call: Call, position: int) -> int | None:
        return position + call.state["skip"] if isinstance(call.state, dict) else None

    stream = b"\x80\x02(cpkg\nArray\n)\x81}X\x04\0\0\0skipK\x05sb" + b"\xff" * 5 + b"K\x07t."

    assert run(stream, on_build=skip).value[1] == 7
    assert run(stream).findings[0].rule == "pickle-broken"
    assert run(stream, on_build=lambda *_: 1 << 40).findings[0].rule == "pickle-broken"
    assert run(stream, on_build=lambda *_: 0).findings[0].rule == "pickle-broken"


@pytest.mark.parametrize(
    ("limits", "stream"),
    [
        (Limits(opcodes=1000), b"N" * 3_000_000),
        (Limits(values=1000), b"]" * 3_000_000),
        (Limits(marks=1000), b"(" * 3_000_000),
        (Limits(stack=1000), b"N" * 3_000_000),
        (Limits(memo=1000), b"N" + b"\x94" * 3_000_000),
        (Limits(text=100), b"X\0\0\x30\0" + b"x" * (3 << 20) + b"."),
    ],
)
def test_every_limit_ends_in_a_finding(limits: Limits, stream: bytes) -> None:
    parsed = run(b"\x80\x04" + stream, limits=limits)

    assert rules(parsed) == ["pickle-limit"]


def test_hostile_depth_and_doubling_cost_no_more_than_their_bytes() -> None:
    nested = b"\x80\x04)" + b"\x85" * 400_000 + b"\x94}h\x00Ns."
    doubled = b"\x80\x04)" + b"2\x86" * 200_000 + b"\x94}h\x00Ns."
    lists = b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b"."

    for stream in (nested, doubled, lists):
        assert run(stream).complete
    assert isinstance(next(iter(run(nested).value)), Opaque)


def test_concatenated_pickles_are_read_one_after_the_other() -> None:
    data = pickle.dumps(1) + pickle.dumps("two", 0)

    first = run(data)
    second = run(data, offset=first.end)

    assert (first.value, second.value, second.end) == (1, "two", len(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_are_recognised_by_their_head(protocol: int) -> None:
    small = pickle.dumps({"a": [1, 2.5, None]}, protocol)
    large = pickle.dumps([{f"name {i}": i / 3 for i in range(9000)}], protocol)

    assert looks_like_pickle(small)
    assert looks_like_pickle(large[:4096])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"N",
        b"(c) 2024 Somebody. All rights reserved.\n" * 100,
        b"import os\nprint(1)\n",
        b"cats and dogs\nlive here\n" * 90,
        b"]]]]]]]] no",
        b'{"a": 1}',
        b"\x80\x02\x00\x00",
        b"\x80\x09K\x01.",
        b"Valuable text\nMore text\n",
        b"IN CONGRESS, July 4, 1776\n",
    ],
)
def test_other_content_is_not_taken_for_a_pickle(head: bytes) -> None:
    assert not looks_like_pickle(head)


_SEED = pickle.dumps(
    [collections.OrderedDict(a=1), {"x": (1.5, [b"abc", "é" * 40, range(3), collections.deque([1])])}, {1, 2}], 4
)


@given(
    protocol=st.sampled_from(PROTOCOLS),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=0, max_size=6)), max_size=6),
    cut=st.integers(0, 400),
)
@settings(deadline=None, max_examples=200)
def test_mutated_streams_only_ever_cause_findings_or_our_errors(
    protocol: int, edits: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(pickle.dumps(pickle.loads(_SEED), protocol))
    for position, replacement in edits:
        data[position : position + len(replacement)] = replacement

    _never_raises_anything_else(bytes(data[: len(data) - cut // 4]))


@given(data=st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_random_bytes_only_ever_cause_findings_or_our_errors(data: bytes) -> None:
    _never_raises_anything_else(b"\x80\x04" + data)
    _never_raises_anything_else(data)
    assert looks_like_pickle(data) in {True, False}


def _never_raises_anything_else(data: bytes) -> None:
    try:
        parsed = run(data)
    except AssayError:
        return
    assert parsed.end <= max(len(data), 1)
    assert parsed.complete or parsed.findings


@given(body=st.lists(st.sampled_from([b"(", b"0", b"1", b"2", b"N", b"K\x01", b"]", b"}", b")", b"a", b"e", b"s", b"u",
    b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"\x94", b"q\x00", b"q\x03", b"h\x00", b"h\x01", b"h\x03", b"I01\n",
    b"F1.5\n", b"F2\na", b"I7\na", b"\x8c\x01x", b"\x8f", b"\x90", b"\x91", b"G" + bytes(8), b"M\x01\x02",
    b"J\x01\x02\x03\x04", b"p1\n", b"g1\n", b"U\x01z", b"X\x01\x00\x00\x00y"]), max_size=40))  # fmt: skip
@settings(deadline=None, max_examples=400)
def test_random_programs_agree_with_the_c_unpickler(body: list[bytes]) -> None:
    data = b"\x80\x04" + b"".join(body) + b"."

    try:
        expected = pickle.loads(data)
    except Exception:  # noqa: BLE001 - whatever it refuses
        expected = _FAILED
    try:
        parsed = run(data)
    except BadFormat:
        assert expected is _FAILED
        return

    if expected is not _FAILED:
        assert parsed.complete, parsed.findings
        if not _opaque(parsed.value):
            assert repr(parsed.value) == repr(expected)


_FAILED = object()


def _opaque(value: object) -> bool:
    return "Opaque" in repr(value)


def test_the_machine_does_not_leave_garbage_collection_off() -> None:
    import gc

    run(pickle.dumps([1]))

    assert gc.isenabled()
    assert Machine.run.__doc__


@pytest.mark.real
def test_a_real_protocol_0_stream_of_five_million_opcodes_is_read_whole(
    real_model: Callable[[str, str, str], Path],
) -> None:
    file = real_model("mhcnuggets==2.4.1", "mhcnuggets/data/production/mhcI/hp_ic50s_cI.pkl", "528cd60d361b")

    parsed = parse(FileWindow(file))

    assert parsed.complete
    assert parsed.opcodes == 5_082_390
    assert parsed.value["downsampled"]["HLA-B44:01"][:2] == [1.98, 3.7999999999999998]
