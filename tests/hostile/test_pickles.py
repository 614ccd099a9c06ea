"""Pickles that would do something when loaded, wherever they lie; and streams like them that are harmless."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import lzma
import pickle
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from bounds import HANG
from hostile_pickles import BYPASSES, HOSTILE, RUN, array, called, dtype, name, old, storage, stream, text, torch_zip

from assay.audit.pickles import judge
from assay.containers.pickle.parse import parse
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Tree


def found(data: bytes, path: str = "m.pkl") -> list[Finding]:
    tree = Tree.of({path: data})
    inspection = inspect(tree, all_formats())
    assert not inspection.unknown
    return [item for item in inspection.all_findings if item.severity is not Severity.NOTE]


def harmful(data: bytes, path: str = "m.pkl") -> bool:
    return any(item.severity not in (Severity.INCOMPLETE, Severity.MISLEAD) for item in found(data, path))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_stream_that_does_something_is_never_clean(what: str) -> None:
    began = time.process_time()

    assert found(HOSTILE[what])
    assert time.process_time() - began < HANG


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "persistent id"])
def test_what_a_stream_does_is_named(what: str) -> None:
    window = BytesWindow(HOSTILE[what])
    streams, at = [], 0
    while at < window.size:
        streams.append(parse(window, offset=at))
        at = streams[-1].end if streams[-1].complete else window.size

    findings = [*judge(streams, window), *(item for one in streams for item in one.findings)]

    assert any(item.severity in (Severity.EXECUTE, Severity.EXHAUST, Severity.WRITE) for item in findings)


@pytest.mark.parametrize("full", BYPASSES)
def test_a_name_outside_the_tables_is_never_clean(full: str) -> None:
    module, _, attribute = full.rpartition(".")

    (finding,) = found(stream(called(module, attribute, text("x"))))

    assert finding.evidence == full
    assert finding.effect
    assert finding.severity not in (Severity.NOTE, Severity.MISLEAD, Severity.INCOMPLETE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(stream(called("collections", "OrderedDict")), id="call"),
        pytest.param(stream(name("sklearn.svm._classes", "SVC"), b")\x81", b"}", text("a"), b"K\1sb"), id="build"),
        pytest.param(stream(called("functools", "partial", name("numpy", "sum"))), id="partial"),
        pytest.param(stream(called("collections", "defaultdict", name("builtins", "list"))), id="factory"),
        pytest.param(stream(called("numpy._core", "_ufunc_reconstruct", text("numpy"), text("log1p"))), id="ufunc"),
        pytest.param(stream(called("_codecs", "encode", text("x"), text("latin1"))), id="codec"),
        pytest.param(stream(called("builtins", "bytearray", b"C\x02ab")), id="bytes"),
        pytest.param(stream(array(dtype("O8", 63), b"]K\1a")), id="objects"),
        pytest.param(stream(called("operator", "attrgetter", text("a.b"))), id="attribute getter"),
        pytest.param(stream(called("fractions", "Fraction", text("1/3"))), id="fraction"),
        pytest.param(stream(b"]" + b"\x85" * 100), id="nesting"),
        pytest.param(stream(b"}", b"K\1K\2\x86", b"N", b"s"), id="key"),
        pytest.param(b"I0x1\n.", id="number in base 16"),
        pytest.param(stream(b"N") + stream(b"N"), id="second pickle"),
        pytest.param(pickle.dumps("a prompt that mentions os.system"), id="text about os.system"),
    ],
)
def test_a_harmless_twin_is_clean(data: bytes) -> None:
    assert found(data) == []


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma alone": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "twice": lambda data: gzip.compress(bz2.compress(data)),
    "two members": lambda data: gzip.compress(data[:10]) + gzip.compress(data[10:]),
}


@pytest.mark.parametrize("path", ["m.pkl", "m", "model.bin", "weights.dat", "readme.txt", "config.json"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_pickle_is_found_under_any_name_and_compression(wrapping: str, path: str) -> None:
    assert harmful(WRAPPINGS[wrapping](stream(RUN)), path)
    assert found(WRAPPINGS[wrapping](stream(b"N" * 20)), path) == []


@pytest.mark.parametrize("path", ["m.pkl", "m", "readme.txt"])
def test_a_pickle_of_protocol_0_is_found_under_any_name(path: str) -> None:
    assert harmful(HOSTILE["protocol 0"], path)


def test_a_torch_archive_is_judged_by_its_pickle() -> None:
    kinds = {"honest": name("torch", "FloatStorage"), "callable": name("os", "system"), "helper": name("numpy", "sum")}

    def tensor(kind: str) -> bytes:
        parts = (
            storage(kinds[kind], 1) + b"K\0" + b"K\1\x85" + b"K\1\x85" + b"\x89" + called("collections", "OrderedDict")
        )
        return torch_zip(stream(called("torch._utils", "_rebuild_tensor_v2", parts)), **{"data/0": b"\0\0\0\0"})

    assert found(tensor("honest"), "m.pt") == []
    assert harmful(tensor("callable"), "m.pt")
    assert harmful(tensor("helper"), "m.pt")
    assert harmful(torch_zip(stream(b"}"), **{"constants.pkl": stream(RUN)}), "m.pt")


@pytest.mark.parametrize(
    ("module", "function"), [("builtins", "list"), ("collections", "deque"), ("builtins", "bytearray")]
)
@pytest.mark.parametrize(
    "endless", [("builtins", "range", b"\x8a\x06\0\0\0\0\0\x01"), ("ipaddress", "IPv4Network", b"K\0")]
)
def test_what_stands_for_more_than_memory_holds_is_not_gone_through(
    module: str, function: str, endless: tuple[str, str, bytes]
) -> None:
    made = (name(endless[0], endless[1]), endless[2], b"\x85R")

    assert harmful(stream(name(module, function), *made, b"\x85R"))
    assert not harmful(
        stream(
            name(module, "list" if module == "builtins" else function), name("builtins", "range"), b"K\x05\x85R\x85R"
        )
    )


@pytest.mark.parametrize("function", ["_rebuild_tensor_v2", "_rebuild_parameter"])
def test_a_rebuild_function_calls_nothing_it_is_given(function: str) -> None:
    def rebuilt(module: str, attribute: str) -> bytes:
        parts = name(module, attribute), name("torch", "Tensor"), b")", b"}"
        return torch_zip(stream(called("torch._tensor", "_rebuild_from_type_v2", *parts)))

    assert harmful(rebuilt("os", "system"), "m.pt")
    assert harmful(rebuilt("torch.storage", "_load_from_bytes"), "m.pt")
    assert not harmful(rebuilt("torch._utils", "_rebuild_tensor_v2"), "m.pt") or function == "_rebuild_parameter"


def test_hooks_of_a_parameter_would_be_called() -> None:
    made = called("collections", "OrderedDict")

    def parameter(hooks: bytes) -> list[Finding]:
        data = stream(
            called(
                "torch._utils", "_rebuild_parameter", called("torch._utils", "_rebuild_nested_tensor"), b"\x88", hooks
            )
        )
        return judge([parse(BytesWindow(data))], BytesWindow(data), torch=True)

    assert parameter(made) == []
    assert parameter(made + b"K\1" + name("numpy", "sum") + b"s")


def test_object_arrays_are_judged_by_their_elements() -> None:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}, None], object))
    honest = out.getvalue()
    header = honest[: honest.index(b"\n") + 1]

    assert found(honest, "a.npy") == []
    assert harmful(header + stream(RUN), "a.npy")


def test_array_bytes_that_are_instructions_without_joblib_count() -> None:
    def wrapped(data: bytes) -> bytes:
        kind = called("numpy", "dtype", text("u1"))
        pairs = text("subclass") + name("numpy", "ndarray"), text("order") + text("C"), text("dtype") + kind
        shape = text("shape") + b"K" + bytes([len(data)]) + b"\x85"
        wrapper = name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81"
        return stream(wrapper, b"}(", *pairs, shape, b"ub", data)

    evil = old("os", "system") + b"(S'a'\ntR."

    assert found(wrapped(b"abc"), "a.joblib") == []
    assert {item.rule for item in found(wrapped(evil), "a.joblib")} == {"pickle-two-readings"}


def test_many_names_do_not_crowd_out_a_dangerous_one_nor_hide_that_there_are_more() -> None:
    names = b"".join(b"cteam%d\nNet\n0" % number for number in range(300))
    rules = {finding.rule for finding in found(b"\x80\x02" + names + b"cos\nsystem\n.")}

    assert {"pickle-unknown-global", "pickle-dangerous-global", "pickle-more"} <= rules


def test_offsets_and_evidence_are_exact_and_a_name_counts_once() -> None:
    data = stream(b"N0", name("chemprop.models", "MPN"), b"0", name("chemprop.models", "MPN"))

    (finding,) = found(data)

    assert (finding.rule, finding.evidence) == ("pickle-unknown-global", "chemprop.models.MPN")
    assert data[finding.offset or 0] == 0x93
    assert "MPN from chemprop.models" in finding.message


def test_honest_values_of_every_kind_are_clean() -> None:
    values = [
        collections.OrderedDict(a=1),
        np.arange(3),
        np.array([None, "a"]),
        np.float32(1),
        np.random.default_rng(1),
    ]

    for value in values:
        for protocol in range(6):
            assert found(pickle.dumps(value, protocol)) == []
