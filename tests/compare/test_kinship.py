"""How two models relate, told by their tensors and by what is beside them."""

from __future__ import annotations

import pytest
from comparisons import change, item, numbers, side, tokenizer, told, unknown_side
from hypothesis import given
from hypothesis import strategies as st

from assay.compare.weights import is_near, weigh
from assay.spec.changes import Area, Effect, Kinship, State, TensorChange
from assay.spec.tensor import TensorSpec

OLD, NEW = side("./old"), side("./new")
NOTE = item(Area.METADATA, "README.md", effect=Effect.NOTE)
SETTING = item(Area.CONFIG, "config.json: hidden_act", "gelu", "relu")


def layers(relative: float, state: State = State.CHANGED, count: int = 12, **more: object) -> tuple[TensorChange, ...]:
    return tuple(change(f"encoder.layer.{at}.weight", state, relative, **more) for at in range(count))


@pytest.mark.parametrize(
    ("changes", "items", "kin"),
    [
        ((change("a"), change("b")), (NOTE,), Kinship.SAME_MODEL),
        ((change("a"), change("b")), (SETTING,), Kinship.SAME_WEIGHTS),
        ((change("a"), change("labels", State.CHANGED, dtypes=("int64", "int64"))), (), Kinship.SAME_WEIGHTS),
        ((change("a"), change("x.num_batches_tracked", State.CHANGED, dtypes=("int64", "int64"))), (), Kinship.SAME_MODEL),
        ((change("a"), change("optimizer.state.0.exp_avg", State.REMOVED)), (), Kinship.SAME_MODEL),
        ((change("a"), change("embeddings.position_ids", State.REMOVED, dtypes=("int64", "int64"))), (), Kinship.SAME_MODEL),
        (layers(0.06), (), Kinship.FINE_TUNE),
        ((*layers(0.06), change("classifier.weight", State.ADDED), change("cls.bias", State.REMOVED)), (), Kinship.FINE_TUNE),
        (layers(1.41), (), Kinship.RETRAINED),
        ((*layers(0.0, State.EQUAL), change("classifier.weight", State.CHANGED, 1.4)), (), Kinship.FINE_TUNE),
        (layers(0.1, rank=8), (), Kinship.ADAPTER),
        ((*layers(0.1, rank=8, count=3), *layers(0.1, count=9)), (), Kinship.FINE_TUNE),
        (layers(0.001, State.RECAST, dtypes=("float32", "float16"), cast_error=0.001), (), Kinship.RECAST),
        (layers(0.06, State.RECAST, dtypes=("float32", "q4_0")), (), Kinship.RECAST),
        (layers(0.06, State.RECAST, dtypes=("float32", "float16"), cast_error=0.001), (), Kinship.FINE_TUNE),
        ((*layers(1.4), *(change(f"more.{at}", State.ADDED) for at in range(6))), (), Kinship.OTHER_ARCHITECTURE),
        ((change("a", State.ADDED), change("b", State.REMOVED)), (), Kinship.UNRELATED),
        (layers(0.0, State.UNREADABLE), (), Kinship.SAME_ARCHITECTURE),
        ((*layers(0.0, State.UNREADABLE), *(change(f"more.{at}", State.ADDED) for at in range(6))), (), Kinship.OTHER_ARCHITECTURE),
    ],
)  # fmt: skip
def test_two_models_relate_as_their_content_shows(changes, items, kin: Kinship) -> None:
    assert told(OLD, NEW, changes, items).kinship is kin


def test_equal_bytes_are_identical_whatever_is_said_of_them() -> None:
    assert told(OLD, NEW, items=(SETTING,), equal_bytes=True).kinship is Kinship.IDENTICAL


def test_a_classical_model_near_the_old_one_was_fitted_anew_and_not_fine_tuned() -> None:
    old, new = (side(label, format="joblib", framework="scikit-learn", architecture="LinearSVC") for label in "ab")

    assert told(old, new, (change("coef_", State.CHANGED, 0.02),)).kinship is Kinship.RETRAINED


def test_models_without_tensors_are_told_by_their_class_and_what_differs() -> None:
    old, new, other = (side("x", format="xgboost", architecture=kind) for kind in ("gbtree", "gbtree", "gblinear"))
    trees = item(Area.ARCHITECTURE, "m.ubj: trees", 30, 30, text="30 of 30 trees differ")
    unread = item(Area.ARCHITECTURE, "m.ubj", text="the content differs", why="not understood: too long")

    assert told(old, new, (), (NOTE,)).kinship is Kinship.SAME_MODEL
    assert told(old, new, (), (trees,)).kinship is Kinship.RETRAINED
    assert told(old, new, (), (unread,)).kinship is Kinship.RETRAINED
    assert told(old, new, (), (SETTING,)).kinship is Kinship.SAME_WEIGHTS
    assert told(old, other, (), (trees,)).kinship is Kinship.UNRELATED
    assert told(unknown_side(), unknown_side(), (), (trees,)).kinship is Kinship.UNRELATED


def test_an_adapter_beside_its_base_is_an_adapter() -> None:
    base, adapter = side("base"), side("adapter", format="peft")
    changes = (change("q.weight", State.REMOVED), change("q.lora_A.weight", State.ADDED))

    assert told(base, adapter, changes).kinship is Kinship.ADAPTER
    assert told(adapter, base, changes).kinship is Kinship.ADAPTER
    assert told(adapter, side("b", format="peft"), changes).kinship is not Kinship.ADAPTER


def test_without_one_tensor_in_common_the_purpose_tells_another_architecture() -> None:
    changes = (change("a", State.ADDED), change("b", State.REMOVED))
    old, new = (side(label, task="text-classification") for label in "ab")

    assert told(old, new, changes).kinship is Kinship.OTHER_ARCHITECTURE


@given(st.floats(-1, 1), st.floats(0.01, 100), st.floats(-50, 50), st.integers(20, 10_000))
def test_nearness_is_the_correlation_whatever_mean_and_size(correlation, scale, mean, size) -> None:
    """Elements of mean m and deviation s: ‖a‖² = n(m²+s²), a·b = n(m²+cs²) for a correlation c."""
    norm = (size * (mean**2 + scale**2)) ** 0.5
    dot = size * (mean**2 + correlation * scale**2)
    distance = max(0.0, 2 * norm**2 - 2 * dot) ** 0.5
    spec = TensorSpec("w", "float32", (size, 1))
    told = numbers(
        distance / norm, size=size, difference_norm=distance, old_norm=norm, new_norm=norm,
        old_mean=mean, new_mean=mean, old_std=scale, new_std=scale,
    )  # fmt: skip
    pair = TensorChange(state=State.CHANGED, old=spec, new=spec, numbers=told)

    found = weigh([pair]).correlation
    assert found == pytest.approx(correlation, abs=1e-3 * (1 + (mean / scale) ** 2))
    if abs(mean / scale) < 3 and abs(correlation - 0.5) > 0.02:
        assert is_near(pair) is (correlation > 0.5)


def test_weights_of_one_sign_do_not_pass_for_kin_by_their_direction() -> None:
    """Two unrelated scales around one point in the same direction: cosine 0.99, correlation 0."""
    told = numbers(0.14, size=64, difference_norm=0.1 * 2**0.5 * 8, old_norm=8.04, new_norm=8.04,
                   old_mean=1.0, new_mean=1.0, old_std=0.1, new_std=0.1, cosine=0.99)  # fmt: skip
    spec = TensorSpec("norm.weight", "float32", (64,))

    assert not is_near(TensorChange(state=State.CHANGED, old=spec, new=spec, numbers=told))


def test_a_vocabulary_that_grew_is_no_foreign_part() -> None:
    grown = change("wte.weight", State.RESHAPED, 0.06, shape=(12, 8), old_shape=(8, 8))

    assert told(
        side("a", tokenizer=tokenizer(8)), side("b", tokenizer=tokenizer(12)), (grown, *layers(0.05))
    ).kinship is (Kinship.FINE_TUNE)


def test_a_conversion_that_folds_small_tensors_away_is_told_by_its_elements() -> None:
    """Of six tensors two are left as they were, and these are nearly the whole model."""
    folded = tuple(change(f"bn.{at}", State.REMOVED, shape=(4,)) for at in range(4))
    same = tuple(change(f"dense.{at}", shape=(64, 64)) for at in range(2))
    old, new = side("a.pt", format="pytorch"), side("a.onnx", format="onnx")

    assert told(old, new, (*same, *folded)).kinship is Kinship.SAME_WEIGHTS
    assert told(
        old, new, (*folded, change("dense", State.REMOVED, shape=(64, 64)), change("b", shape=(4,)))
    ).kinship is (Kinship.OTHER_ARCHITECTURE)


@pytest.mark.parametrize(
    ("formats", "kin"),
    [
        (("safetensors", "pytorch"), Kinship.FINE_TUNE),
        (("transformers", "safetensors"), Kinship.FINE_TUNE),
        (("pytorch", "onnx"), Kinship.SAME_WEIGHTS),
    ],
)
def test_only_where_converters_fold_tensors_may_some_of_the_same_weights_differ(formats, kin: Kinship) -> None:
    """A head that was trained on, kept in another container, is no conversion."""
    changes = (
        *(change(f"layer.{at}.weight", shape=(64, 64)) for at in range(6)),
        change("head.weight", State.CHANGED, 0.1),
    )
    old, new = (side(label, format=name) for label, name in zip("ab", formats, strict=True))

    found = told(old, new, changes)
    assert found.kinship is kin
    assert "All 7 tensors are equal" not in " ".join(found.summary)


def test_a_damaged_copy_in_another_format_is_not_the_same_weights() -> None:
    broken = change("head.weight", State.CHANGED, 0.0, new_nonfinite=3)
    whole = tuple(change(f"layer.{at}.weight", shape=(64, 64)) for at in range(6))

    for name in ("onnx", "safetensors"):
        found = told(side("a", format="pytorch"), side("b", format=name), (*whole, broken))
        assert found.kinship is not Kinship.SAME_WEIGHTS
        assert "NaN" in " ".join(found.summary)
