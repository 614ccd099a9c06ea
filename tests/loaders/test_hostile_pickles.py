"""Pickles that want something run, read or written get nothing: each is refused and leaves no trace."""

from __future__ import annotations

import builtins
import bz2
import collections
import contextlib
import fractions
import functools
import io
import lzma
import operator
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, LimitExceeded, Refused
from assay.loaders import pickle_files, restricted
from assay.loaders.pickle_files import read_pickle

# joblib and scikit-learn are needed to write some of the files; what they warn about is not what is tested.
pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def calls(marker: Path) -> dict[str, object]:
    touch = f"touch {marker}"
    return {
        "os.system": Call(os.system, touch),
        "eval": Call(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "open": Call(builtins.open, str(marker), "w"),
        "import": Call(builtins.__import__, "antigravity"),
        "getattr": Call(builtins.getattr, os.stat_result, "__init__"),
        "partial": Call(functools.partial, os.system, touch),
        "partial of a class": Call(functools.partial, np.ndarray),
        "attrgetter": Call(operator.attrgetter, "system"),
        "methodcaller": Call(operator.methodcaller("touch"), marker),
        "bound method": Call(marker.touch),
        "memmap": Call(np.memmap, str(marker), "uint8", "w+", 0, (10,)),
        "np.load": Call(np.load, str(marker), None, True),
        "fromfile": Call(np.fromfile, str(marker)),
        "joblib.load": Call(joblib.load, str(marker)),
        "nested pickle": Call(pickle.loads, pickle.dumps(Call(os.system, touch))),
        "in a list": [1, {"a": (Call(os.system, touch),)}],
        "as a key": {Call(hash, 1): 1},
        "in an object array": np.array([Call(os.system, touch), None], dtype=object),
        "in an estimator": _estimator_with(Call(os.system, touch)),
    }


def _estimator_with(value: object) -> object:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression()
    model.coef_ = value
    return model


NAMES = list(calls(Path("unused")))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_that_calls_something_is_refused_and_nothing_happens(name: str, protocol: int, tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(calls(marker)[name], protocol))

    with pytest.raises(Refused) as caught:
        read_pickle(file)

    assert caught.value.code == "unsafe-pickle"
    assert not marker.exists()


@pytest.mark.parametrize("compress", [0, 3, ("bz2", 3), ("xz", 3), ("lz4", 3)])
@pytest.mark.parametrize("name", NAMES)
def test_a_joblib_file_that_calls_something_is_refused_and_nothing_happens(
    name: str, compress: Any, tmp_path: Path
) -> None:
    marker, file = tmp_path / "marker", tmp_path / "model.joblib"
    joblib.dump([np.arange(5), calls(marker)[name], np.arange(3)], file, compress=compress)

    with pytest.raises(Refused):
        read_pickle(file)

    assert not marker.exists()


def test_the_same_files_do_harm_with_the_real_unpicklers(tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "model.joblib"
    joblib.dump(calls(marker)["in an object array"], file)

    joblib.load(file)

    assert marker.exists()


def stream(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


ARRAY = name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
LOGISTIC = name("sklearn.linear_model._logistic", "LogisticRegression") + b")\x81"

STREAMS = {
    "dotted name": stream(name("numpy", "core.multiarray.os.system")),
    "dotted name through an allowed class": stream(name("sklearn.linear_model._logistic", "LogisticRegression.fit")),
    "dunder of a module": stream(name("numpy", "__builtins__")),
    "module of a module": stream(name("sklearn.linear_model._logistic", "os")),
    "name made of pieces": stream(text("os"), b"\x94", text("system"), b"\x94", b"h\x00h\x01\x93"),
    "plain GLOBAL": b"cposix\nsystem\n(S'true'\ntR.",
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "extension code": stream(b"\x82\x01"),
    "persistent id": stream(text("x"), b"Q"),
    "outside buffer": b"\x80\x05\x97.",
    "calls a class that is only constructed": stream(
        name("sklearn.linear_model._logistic", "LogisticRegression"), text("l1"), b"\x85R"
    ),
    "calls a value": stream(name("numpy", "mean"), b"]\x85R"),
    "calls an instance": stream(LOGISTIC, b")R"),
    "makes an instance of a value": stream(name("numpy", "ndarray"), b"M\xff\xff\x85\x81"),
    "makes an instance with arguments": stream(
        name("sklearn.linear_model._logistic", "LogisticRegression"), text("l1"), b"\x85\x81"
    ),
    "makes an instance with keywords": stream(
        name("sklearn.linear_model._logistic", "LogisticRegression"), b")}", text("C"), b"K\x01s\x92"
    ),
    "state of a class": stream(
        name("sklearn.linear_model._logistic", "LogisticRegression"), b"N}", text("fit"), name("numpy", "mean"), b"s\x86b"
    ),
    "state of a function": stream(name("numpy", "mean"), b"}", text("__code__"), b"Nsb"),
    "state of a dictionary": stream(b"}}", text("a"), b"K\x01sb"),
    "state twice": stream(LOGISTIC, b"}b", b"}b"),
    "state that puts a setter on the instance": stream(LOGISTIC, b"}", text("__setstate__"), name("numpy", "mean"), b"sb"),
    "state that shadows a method": stream(LOGISTIC, b"}", text("predict"), name("numpy", "mean"), b"sb"),
    "state that changes the class": stream(
        LOGISTIC, b"}", text("__class__"), name("sklearn.svm._classes", "SVC"), b"sb"
    ),
    "appends to an instance": stream(LOGISTIC, b"K\x01a"),
    "sets items of an array": stream(ARRAY, b"K\x00K\x01s"),
    "adds items to a list": stream(b"](K\x01\x90"),
    "array whose bytes are missing": stream(
        ARRAY, b"(K\x01M\xff\xff\x85", name("numpy", "dtype"), text("f8"), b"\x89\x88\x87R", b"\x89C\x01x\x74\x94b"
    ),
    "array with a negative shape": stream(
        ARRAY, b"(K\x01J\xff\xff\xff\xff\x85", name("numpy", "dtype"), text("f8"), b"\x89\x88\x87R", b"\x89C\x00\x74\x94b"
    ),
    "array state twice": stream(
        ARRAY, b"(K\x01K\x00\x85", name("numpy", "dtype"), text("f8"), b"\x89\x88\x87R", b"\x89C\x00\x74b",
        b"(K\x01K\x00\x85N\x89C\x00\x74b",
    ),
    "array of another class": stream(
        name("numpy._core.multiarray", "_reconstruct"), name("numpy", "memmap"), b"K\x00\x85C\x01b\x87R"
    ),
    "dtype from a list of fields": stream(name("numpy", "dtype"), b"]\x85R"),
    "dtype from a class path": stream(name("numpy", "dtype"), text("O,os.system"), b"\x85R"),
    "object scalar": stream(
        name("numpy._core.multiarray", "scalar"), name("numpy", "dtype"), text("O8"), b"\x85RC\x08aaaaaaaa\x86R"
    ),
    "bytearray of a length": stream(name("builtins", "bytearray"), b"J\xff\xff\xff\x7f\x85R"),
    "list of a range": stream(name("builtins", "list"), name("builtins", "range"), b"J\xff\xff\xff\x7f\x85R\x85R"),
    "codec that runs code": stream(name("_codecs", "encode"), text("x"), text("zlib"), b"\x86R"),
    "defaultdict with a function": stream(name("collections", "defaultdict"), name("numpy", "mean"), b"\x85R"),
    "partial that gets another function": stream(
        name("functools", "partial"), name("numpy", "mean"), b"\x85R(", name("numpy", "sum"), b")}N\x74b"
    ),
    "partial that gets a function as argument": stream(
        name("functools", "partial"), name("numpy", "mean"), b"\x94\x85R(h\x00h\x00\x85}N\x74b"
    ),
    "tree with lying counts": stream(
        name("sklearn.tree._tree", "Tree"), b"K\x01", ARRAY, b"J\xff\xff\xff\x7f\x87R"
    ),
    "ufunc by a foreign name": stream(name("numpy._core", "_ufunc_reconstruct"), text("os"), text("system"), b"\x86R"),
    "booster with a pointer": stream(
        name("xgboost.core", "Booster"), b")\x81}", text("handle"), b"J\xff\xff\xff\x7fsb"
    ),
    "lightgbm booster with a pointer": stream(
        name("lightgbm.basic", "Booster"), b")\x81}", text("_handle"), b"J\xff\xff\xff\x7fsb"
    ),
    "frozen distribution": stream(name("scipy.stats._continuous_distns", "norm_gen"), b")\x81"),
    "regular expression of any length": stream(
        name("re", "_compile"), b"X" + struct.pack("<I", 20_000) + b"a" * 20_000, b"K\x00\x86R"
    ),
    "deep key": stream(b")" + b"\x85" * 100 + b"\x94", b"}h\x00K\x01s"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(STREAMS))
def test_a_stream_that_asks_for_a_power_is_refused(what: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(STREAMS[what])

    with pytest.raises(Refused) as caught:
        read_pickle(file)

    assert caught.value.code == "unsafe-pickle"


BROKEN = {
    "empty": b"",
    "cut off": stream(b"(K\x01")[:-1],
    "nothing on the stack": b"\x80\x04.",
    "unknown opcode": b"\x80\x04\xff.",
    "frame longer than the file, and nothing in it": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60),
    "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b".",
    "bytearray longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".",
    "memo that is not there": b"\x80\x04h\x07.",
    "protocol of the future": b"\x80\x09N.",
    "number of many digits": b"L" + b"9" * 10_000 + b"L\n.",
    "damaged gzip": b"\x1f\x8b\x08\x00" + b"x" * 50,
    "damaged xz": b"\xfd7zXZ\x00" + b"x" * 50,
    "damaged bzip2": b"BZh9" + b"x" * 50,
    "damaged zlib": b"\x78\x9c" + b"x" * 50,
    "old joblib": b"ZF0x1234567890",
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_stream_is_a_bad_format(what: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(BROKEN[what])

    with pytest.raises(BadFormat):
        read_pickle(file)


@pytest.mark.parametrize("pack", [zlib.compress, bz2.compress, lzma.compress])
def test_a_file_that_inflates_without_end_is_stopped(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_files, "FREE", 1 << 20)
    monkeypatch.setattr(pickle_files, "MAX_RATIO", 10)
    file = tmp_path / "bomb.joblib"
    size = 64 << 20
    file.write_bytes(pack(b"\x80\x04\x8e" + struct.pack("<Q", size) + b"\0" * size + b"."))

    with pytest.raises(LimitExceeded):
        read_pickle(file)


def test_a_short_stream_cannot_copy_one_long_value_over_and_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restricted, "FREE_MEMORY", 1 << 20)
    file = tmp_path / "model.pkl"
    copy = b"h\x00h\x01\x85R0"
    long = b"B" + struct.pack("<I", 100_000) + b"x" * 100_000
    file.write_bytes(stream(name("builtins", "bytearray"), b"\x94", long, b"\x94", copy * 1000, b"N"))

    with pytest.raises(LimitExceeded):
        read_pickle(file)


def _forest() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.random.default_rng(0).normal(size=(200, 3))
    return HistGradientBoostingClassifier(max_iter=3).fit(rows, rows[:, 0] > 0)


def test_a_decision_tree_that_points_outside_itself_is_refused(tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier

    rows = np.random.default_rng(0).normal(size=(50, 3))
    tree = DecisionTreeClassifier().fit(rows, rows[:, 0] > 0)
    file = tmp_path / "tree.pkl"
    plain = pickle.dumps(tree)
    child = struct.pack("<qqq", tree.tree_.children_left[0], tree.tree_.children_right[0], tree.tree_.feature[0])
    assert plain.count(child) == 1
    file.write_bytes(plain.replace(child, struct.pack("<qqq", 1, 1 << 40, 0)))

    with pytest.raises(Refused, match="points outside"):
        read_pickle(file)


@pytest.mark.parametrize(("field", "value"), [("left", 1 << 31), ("right", 0), ("feature_idx", 99)])
def test_a_histogram_tree_that_points_outside_itself_is_refused(field: str, value: int, tmp_path: Path) -> None:
    model = _forest()
    model._predictors[0][0].nodes[field][0] = value
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))

    with pytest.raises(Refused, match="points outside"):
        read_pickle(tmp_path / "model.pkl")


def test_a_histogram_tree_in_a_skops_file_is_looked_at_too(tmp_path: Path) -> None:
    import skops.io

    from assay.loaders.sklearn import read_skops

    model = _forest()
    skops.io.dump(model, tmp_path / "good.skops")
    model._predictors[0][0].nodes["right"][0] = 1 << 31
    skops.io.dump(model, tmp_path / "bad.skops")

    assert (read_skops(tmp_path / "good.skops").predict(np.zeros((1, 3)))).shape == (1,)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="points outside"):
        read_skops(tmp_path / "bad.skops")


def test_a_neighbours_tree_that_points_outside_itself_is_refused(tmp_path: Path) -> None:
    from sklearn.neighbors import KDTree

    tree = KDTree(np.random.default_rng(0).normal(size=(100, 2)), leaf_size=5)
    file = tmp_path / "tree.pkl"
    order = np.asarray(tree.get_arrays()[1])
    plain = pickle.dumps(tree)
    assert plain.count(order.tobytes()) == 1
    file.write_bytes(plain.replace(order.tobytes(), (order + 50).tobytes()))

    with pytest.raises(Refused, match="points outside"):
        read_pickle(file)


def test_a_sparse_matrix_that_points_outside_itself_is_refused(tmp_path: Path) -> None:
    import scipy.sparse

    matrix = scipy.sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = 1000
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(matrix))

    with pytest.raises(Refused, match="points outside"):
        read_pickle(tmp_path / "m.pkl")


def _honest() -> bytes:
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(20, 2))
    out = io.BytesIO()
    joblib.dump([LogisticRegression().fit(rows, rows[:, 0] > 0), np.array(["a", None], dtype=object)], out)
    return out.getvalue()


HONEST = _honest()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(HONEST))
)
def test_whatever_is_changed_in_a_file_only_our_errors_leave(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(HONEST)
    for offset, byte in changes:
        data[offset] = byte
    _read(bytes(data[: len(data) - cut // 10]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_of_our_errors(data: bytes) -> None:
    _read(b"\x80\x04" + data)


def _read(data: bytes) -> None:
    with contextlib.suppress(AssayError):
        restricted.RestrictedUnpickler(pickle_files.BoundedStream(io.BytesIO(data), len(data))).read_object()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


DEEP = b")" + b"\x85" * 500_000  # a tuple in a tuple in a tuple ...: hashing it recurses in compiled code
OBJECTS = (
    named("numpy._core.multiarray", "_reconstruct")
    + b"q\x000"
    + named("numpy", "ndarray")
    + b"q\x010"
    + named("numpy", "dtype")
    + b"X\x02\x00\x00\x00O8\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tbq\x020"
    + b"h\x01K\x00\x85C\x01b\x87q\x030"
)
CHAIN = 200_000
CRASHING = {
    "set of a deep tuple": named("builtins", "set") + b"]" + DEEP + b"a\x85R.",
    "frozenset of a deep tuple": named("builtins", "frozenset") + b"]" + DEEP + b"a\x85R.",
    "dict with a deep key": named("builtins", "dict") + b"]" + DEEP + b"N\x86a\x85R.",
    "OrderedDict with a deep key": named("collections", "OrderedDict") + b"]" + DEEP + b"N\x86a\x85R.",
    "Counter of a deep tuple": named("collections", "Counter") + b"(" + DEEP + b"t\x85R.",
    "deques in deques": named("collections", "deque") + b"q\x000" + b"h\x00)R" * CHAIN + b"a" * (CHAIN - 1) + b".",
    "defaultdicts in defaultdicts": named("collections", "defaultdict")
    + b"q\x000"
    + b"h\x00)RK\x01" * CHAIN
    + b"N"
    + b"s" * CHAIN
    + b".",
    "arrays in arrays": OBJECTS + b"h\x00h\x03R(K\x01K\x01\x85h\x02\x89]" * CHAIN + b"N" + b"atb" * CHAIN + b".",
    "an unfinished array in an array": OBJECTS + b"h\x00h\x03Rq\x040h\x00h\x03R(K\x01K\x01\x85h\x02\x89]h\x04atb.",
}


@pytest.mark.parametrize("name", CRASHING)
def test_values_that_compiled_code_would_follow_too_deep_are_refused(name: str, tmp_path: Path) -> None:
    # Each of these ends the process when it is built or freed: so it happens in one of its own.
    file = tmp_path / "m.pkl"
    file.write_bytes(b"\x80\x04" + CRASHING[name])
    script = (
        "import sys; from pathlib import Path; from assay.errors import Refused\n"
        "from assay.loaders.pickle_files import read_pickle\n"
        "try: read_pickle(Path(sys.argv[1]))\n"
        "except Refused as error: print(error.code)\n"
    )

    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, "unsafe-pickle")


@pytest.mark.parametrize("text", ["1e3000000000", "1" * 5000, "1.5", "nan"])
def test_a_fraction_is_made_of_two_short_whole_numbers_only(text: str, tmp_path: Path) -> None:
    file = tmp_path / "m.pkl"
    size = struct.pack("<I", len(text))
    file.write_bytes(b"\x80\x04" + named("fractions", "Fraction") + b"X" + size + text.encode() + b"\x85R.")

    with pytest.raises(Refused):
        read_pickle(file)


def test_honest_nested_values_still_load(tmp_path: Path) -> None:
    ragged = np.empty(2, object)
    ragged[:] = [np.array(["a", "b"], object), np.array(["c"], object)]
    value = {
        "fraction": fractions.Fraction(-3, 4),
        "ragged": ragged,
        "queue": collections.deque([1, (2, 3)], maxlen=4),
        "counts": collections.Counter({("a", "b"): 2}),
        "default": collections.defaultdict(list, {"x": [1]}),
        "ordered": collections.OrderedDict([(("k", 1), 2)]),
    }
    file = tmp_path / "m.pkl"
    for protocol in range(6):
        file.write_bytes(pickle.dumps(value, protocol))

        found: Any = read_pickle(file)

        assert [list(part) for part in found.pop("ragged")] == [["a", "b"], ["c"]]
        assert found == {key: item for key, item in value.items() if key != "ragged"}


def test_only_names_that_the_audit_saw_in_this_file_are_resolved(tmp_path: Path) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(pickle.dumps(collections.OrderedDict(a=1)))

    assert read_pickle(file, {"collections.OrderedDict"}) == {"a": 1}
    with pytest.raises(Refused, match="which the audit did not see"):
        read_pickle(file, {"collections.Counter"})
