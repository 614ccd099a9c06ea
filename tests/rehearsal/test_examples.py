"""Golden examples: what goes in comes out again, to the bit, and the file that carries it is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.errors import AssayError, InvalidInput
from assay.loaders.examples import decode, encode, modules_of
from assay.spec.example import (
    DEFAULTS,
    EXACT,
    SIZES,
    Array,
    Example,
    Items,
    Output,
    Plain,
    Tolerance,
    parse,
    to_json,
)
from assay.spec.json import canonical
from assay.wiring.examples import Example as Given
from assay.wiring.examples import example_of, read_example

DTYPES = [np.dtype(name) for name in SIZES if name != "bfloat16"] + [np.dtype("<M8[ns]"), np.dtype("<m8[s]")]
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0)))
TEXTS = hnp.arrays(np.dtype("U4"), hnp.array_shapes(max_dims=2, max_side=4))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4)
)
VALUES = st.recursive(
    ARRAYS | TEXTS | PLAIN,
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def _through_json(value: object) -> object:
    return decode(parse(json.loads(canonical(to_json(encode(value))))))


def _same(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            _same(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, yours in zip(one, other, strict=True):
            _same(mine, yours)
    else:
        assert one == other or (one != one and other != other)


@given(VALUES)
def test_every_value_comes_back_to_the_bit(value: object) -> None:
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        assert _through_json(value).tolist() == value.tolist()
    elif not _holds_text_arrays(value):
        _same(_through_json(value), value)


def _holds_text_arrays(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "U"
    members = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(_holds_text_arrays(member) for member in members)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool], ids=str)
def test_tensors_stay_tensors_of_their_type(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).T.to(dtype)

    back = _through_json({"x": tensor})["x"]

    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_half_precision_of_another_kind_comes_back() -> None:
    array = np.array([1.5, -2, np.inf], dtype=ml_dtypes.bfloat16)

    _same(_through_json(array), array)


def test_a_table_comes_back_with_its_columns_and_their_types() -> None:
    frame = pd.DataFrame(
        {
            "city": ["a", None, "größe"],
            "n": np.array([1, 2, 3], dtype="int32"),
            "x": [0.5, float("nan"), 2.0],
            "kind": pd.Categorical(["u", None, "v"], categories=["v", "u"], ordered=True),
            "seen": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "maybe": pd.array([True, None, False], dtype="boolean"),
            7: ["b", "c", "d"],
        }
    )

    back = _through_json(frame)

    pd.testing.assert_frame_equal(back, frame)


def test_an_example_needs_the_library_its_inputs_are_made_of() -> None:
    assert modules_of(encode({"table": pd.DataFrame({"a": [1]}), "x": torch.zeros(1)})) == ("pandas", "torch")
    assert modules_of(encode([np.zeros(2)])) == ()


def test_an_example_comes_back_from_its_statement() -> None:
    example = Example(
        Items((Plain("x"), Array("float32", (2,), b"\0" * 8)), pair=True),
        (Output("predict", Plain(3)), Output(None, Plain([float("nan")]))),
        {"float32": Tolerance(1e-3), "*": Tolerance(0.1, 0.5)},
        captured=True,
        modules=("pandas",),
    )

    back = Example.parse(json.loads(canonical(example.to_json())))

    assert (back.inputs, back.tolerance, back.captured, back.modules) == (
        example.inputs, example.tolerance, True, ("pandas",),
    )  # fmt: skip
    assert [output.call for output in back.outputs] == ["predict", None]


def test_a_stated_tolerance_comes_before_the_default_and_whole_numbers_are_exact() -> None:
    example = Example(Plain(1), (), {"float64": Tolerance(0.5), "*": Tolerance(0.25)})

    assert example.allowed("float64") == Tolerance(0.5)
    assert example.allowed("float32") == Tolerance(0.25)
    assert example.allowed("int64") == EXACT
    assert Example(Plain(1), ()).allowed("float32") == DEFAULTS["float32"]


def test_what_is_too_large_is_refused_with_its_size() -> None:
    example = Example(encode(np.zeros((1 << 20, 1))), ())

    with pytest.raises(InvalidInput, match="8,388,608 bytes") as raised:
        example.to_json()
    assert raised.value.code == "example-too-large"


class Strange:
    pass


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [Strange(), {1: 2}, np.array([object()], dtype=object), {"a": [Strange()]}, LOOP, torch.zeros(2).to_sparse()],
    ids=["object", "number as name", "array of objects", "nested", "loop", "sparse"],
)
def test_what_has_no_exact_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        encode(value)
    assert raised.value.code == "example-value"


@pytest.mark.parametrize(
    "body",
    [
        {"array": {"dtype": "float32", "shape": [2], "data": "AAAA"}},
        {"array": {"dtype": "object", "shape": [1], "data": "AAAAAAAAAAA="}},
        {"array": {"dtype": "float32", "shape": [-1], "data": ""}},
        {"array": {"dtype": "int8", "shape": [1], "data": "!!"}},
        {"array": {"dtype": "string", "shape": [2], "data": ["a"]}},
        {"pickle": "gASVAAAAAAAA"},
        {"json": {"x": 1}},
        {"json": 1, "array": 2},
        [],
        None,
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_a_statement_that_holds_something_else_is_refused(body: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        Example.parse({"inputs": body, "outputs": []})
    assert raised.value.code == "bad-example"


def test_containers_that_are_too_deep_are_refused() -> None:
    body: object = {"json": 1}
    for _ in range(40):
        body = {"list": [body]}

    with pytest.raises(InvalidInput) as raised:
        Example.parse({"inputs": body, "outputs": []})
    assert raised.value.code == "bad-example"


def test_an_archive_holds_named_inputs_and_outputs(tmp_path: Path) -> None:
    file = tmp_path / "example.npz"
    np.savez(file, **{"inputs.a": np.ones(2), "inputs.b": np.zeros(2, dtype="int8"), "outputs": np.arange(3)})

    example = read_example(file)

    assert {name: one.dtype for name, one in example.inputs.values.items()} == {"a": "float64", "b": "int8"}
    assert decode(example.outputs[0].value).tolist() == [0, 1, 2]
    assert example.outputs[0].call is None


def test_a_document_holds_lists_typed_arrays_and_a_tolerance(tmp_path: Path) -> None:
    file = tmp_path / "example.json"
    body = {"inputs": {"x": {"dtype": "float32", "values": [[1, 2]]}, "t": ["a"]}, "outputs": [0.5], "tolerance": 0.1}
    file.write_text(json.dumps(body))

    example = read_example(file)

    assert decode(example.inputs)["x"].dtype == np.float32
    assert decode(example.inputs)["t"] == ["a"]
    assert example.allowed("float64") == Tolerance(0.1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"inputs": 1}',
        '{"inputs": 1, "outputs": 2, "tolerance": -1}',
        '{"inputs": {"dtype": "O!", "values": 1}}',
    ],
)
def test_a_file_that_holds_no_example_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "example.json"
    file.write_text(text)

    with pytest.raises(InvalidInput) as raised:
        read_example(file)
    assert raised.value.code in ("bad-example", "bad-tolerance")


def test_a_pickle_inside_an_archive_is_not_unpickled(tmp_path: Path) -> None:
    file = tmp_path / "example.npz"
    np.savez(file, inputs=np.array([{"a": 1}], dtype=object), outputs=np.ones(1))

    with pytest.raises(InvalidInput, match=r"example\.npz"):
        read_example(file)


def test_files_need_their_outputs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        example_of(tmp_path, [1.0])
    assert raised.value.code == "example-without-outputs"


class Doubles:
    def predict(self, values: list[float]) -> np.ndarray:
        return np.asarray(values, dtype="float32") * 2


class Fails:
    def predict(self, values: object) -> object:
        raise ValueError(f"no {values}")


def test_the_live_model_is_asked_and_tolerances_are_stated() -> None:
    example = example_of(Doubles(), [1.0, 2.0])

    assert [(output.call, decode(output.value).tolist()) for output in example.outputs] == [("predict", [2.0, 4.0])]
    assert example.tolerance == {"float32": DEFAULTS["float32"]}
    assert example.captured


def test_two_arguments_that_are_taken_for_inputs_and_outputs_are_refused_with_the_way_out() -> None:
    class Adds:
        def predict(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
            return one + other

    with pytest.raises(InvalidInput, match="does not answer to the first alone") as raised:
        example_of(Adds(), (np.ones(2), np.ones(2)))

    assert raised.value.hint == "two arguments are example=assay.Example((a, b))"
    assert example_of(Adds(), Given((np.ones(2), np.ones(2)))).captured


def test_text_for_a_model_without_its_tokenizer_is_refused_with_the_way_out() -> None:
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )

    with pytest.raises(InvalidInput) as raised:
        example_of(transformers.BertModel(config), ["good"])

    assert raised.value.message == "the example is text, and there is no tokenizer beside the model; nothing was stored"
    assert raised.value.hint == "push the model together with its tokenizer: (model, tokenizer)"


def test_keras_on_torch_is_keras() -> None:
    class Model(torch.nn.Module):  # as keras.Model is one when Keras runs on torch
        __module__ = "keras.src.models.model"
        predict = staticmethod(lambda values, verbose: values * 2)

    Model.__qualname__ = "Model"

    example = example_of(Model(), np.ones((1, 2), dtype="float32"))

    assert [output.call for output in example.outputs] == ["predict"]


def test_a_pair_is_inputs_and_outputs_and_an_example_states_its_tolerance() -> None:
    pair = example_of(Doubles(), ([1.0], [2.0]))
    stated = example_of(Doubles(), Given([1.0], tolerance={"*": (0.1, 0.0)}))

    assert not pair.captured
    assert pair.outputs == (Output(None, Plain([2.0])),)
    assert stated.tolerance == {"*": Tolerance(0.1, 0.0)}


@pytest.mark.parametrize(
    ("model", "code"),
    [(Fails(), "example-failed"), (torch.nn.Linear(2, 2), "not-callable"), ({"w": np.zeros(1)}, "not-callable")],
    ids=["raises", "class not stored", "weights"],
)
def test_a_model_that_cannot_be_asked_later_is_refused_at_push(model: object, code: str) -> None:
    with pytest.raises(AssayError) as raised:
        example_of(model, np.zeros((1, 2), dtype="float32"))
    assert raised.value.code == code


@pytest.mark.filterwarnings("ignore")
def test_asking_leaves_a_model_in_training_as_it_was() -> None:
    model = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5)))
    model.train()

    first = example_of(model, torch.ones(4, 2))
    second = example_of(model, torch.ones(4, 2))

    assert model.training
    assert first.outputs == second.outputs
