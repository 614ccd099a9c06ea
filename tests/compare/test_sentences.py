"""What a person reads first."""

from __future__ import annotations

import pytest
from comparisons import change, group, item, side, tokenizer, told, unknown_side
from hypothesis import given
from hypothesis import strategies as st

from assay.compare.words import names
from assay.spec.changes import Area, Effect, ItemKind, Side, State
from assay.spec.finding import Finding, Severity

OLD, NEW = side("./runs/1/model"), side("./runs/2/model")
LAYERS = tuple(group(f"encoder.layer.{at}", 0.02 * at or None) for at in range(6))


def summary(*arguments: object, **more: object) -> str:
    return " ".join(told(*arguments, **more).summary)


def moved(count: int = 6, relative: float = 0.06, state: State = State.CHANGED, **more: object):
    return tuple(change(f"encoder.layer.{at}.weight", state, relative, **more) for at in range(count))


def test_a_fine_tune_reads_as_a_colleague_would_write_it() -> None:
    old, new = side("./old", tokenizer=tokenizer()), side("./new", tokenizer=tokenizer())
    changes = (*moved(), change("classifier.weight", State.ADDED), change("classifier.bias", State.ADDED))
    items = (item(Area.METRICS, "auc", 0.91, 0.93, effect=Effect.NOTE),)

    assert summary(old, new, changes, items) == (
        "Fine-tune of old: the same architecture and tokenizer. "
        "All 6 shared tensors moved, typically by 6 %; 2 tensors added (classifier). "
        "Measured: auc 0.91 → 0.93 (better). "
        "Drop-in replacement: no, because a head was added: classifier."
    )


def test_frozen_parts_and_the_layers_that_moved_least_and_most_are_named() -> None:
    groups = (group("embeddings"), *(group(f"encoder.layer.{at}", 0.02 * max(0, at - 1) or None) for at in range(6)))
    changes = (change("embeddings.weight"), change("encoder.layer.0.weight"), *moved()[1:])

    text = summary(OLD, NEW, changes, groups=groups)
    assert (
        "5 of 7 shared tensors moved, typically by 6 %, encoder.layer.2 least (2 %) and encoder.layer.5 most (8 %)"
        in text
    )
    assert "embeddings and the first 2 of 6 layers frozen" in text


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        ([0], "the first of 4 layers frozen"),
        ([3], "the last of 4 layers frozen"),
        ([2, 3], "the last 2 of 4 layers frozen"),
        ([0, 2], "2 of 4 layers frozen"),
    ],
)
def test_frozen_layers_are_counted_from_the_end_they_are_at(frozen: list[int], words: str) -> None:
    groups = tuple(group(f"layer.{at}", None if at in frozen else 0.1) for at in range(4))

    assert words in summary(OLD, NEW, (change("a"), *moved()), groups=groups)


def test_a_newer_library_around_the_same_model_is_a_re_release() -> None:
    old, new = (
        side(label, format="joblib", framework="scikit-learn", framework_version=release, requirements=(f"scikit-learn=={release}",))
        for label, release in (("a.joblib", "1.9.0"), ("b.joblib", "1.9.1"))
    )  # fmt: skip
    stamp = item(Area.DEPENDENCIES, "model.joblib: _sklearn_version", "1.9.0", "1.9.1", effect=Effect.NOTE)

    assert summary(old, new, (change("coef_"),), (stamp,)) == (
        "The same model as a.joblib, re-released with a newer library (scikit-learn 1.9.0 → 1.9.1). "
        "Its one tensor is equal, element by element. Drop-in replacement: yes."
    )
    assert "with an older library (scikit-learn 1.9.1 → 1.9.0)" in summary(new, old, (change("coef_"),), (stamp,))


def test_the_stamp_of_a_library_in_a_file_tells_a_re_release_too() -> None:
    stamp = item(Area.DEPENDENCIES, "config.json: transformers_version", "4.9.2", "4.40.1", effect=Effect.NOTE)

    assert "re-released with a newer library (config.json: transformers_version 4.9.2 → 4.40.1)" in summary(
        OLD, NEW, moved(state=State.EQUAL), (stamp,)
    )


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ([], "only the way it is packed differs, nothing that can change what it computes."),
        ([Area.METADATA], "only metadata differs, nothing"),
        ([Area.PARAMS], "only params differ, nothing"),
        ([Area.DEPENDENCIES, Area.METADATA], "only dependencies and metadata differ, nothing"),
        ([Area.METADATA, Area.FORMAT], "only the way it is packed and metadata differ, nothing"),
        ([Area.FILES], "only files beside the model differ, nothing"),
    ],
)
def test_what_differs_around_the_same_model_is_named(areas: list[Area], words: str) -> None:
    items = tuple(item(area, "x", effect=Effect.NOTE) for area in areas)

    assert words in summary(OLD, NEW, moved(state=State.EQUAL), items)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("renamed", "only its file has another name."),
        ("called differently", "only the way it is packed differs, nothing"),
    ],
)
def test_the_name_and_the_size_of_a_file_are_not_what_differs_around_a_model(text: str, words: str) -> None:
    items = (
        item(Area.FILES, "b.bin", "a.bin", "b.bin", text=text, effect=Effect.NOTE),
        item(Area.FILES, "size", 10, 12, text="+2 bytes", effect=Effect.NOTE),
    )

    assert words in summary(
        side("a.bin", paths=("a.bin",)), side("b.bin", paths=("b.bin",)), moved(state=State.EQUAL), items
    )


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "The one shared tensor holds other weights, which do not resemble the old ones (correlation 0.00)"),
        (2, "Both shared tensors hold other weights"),
        (3, "All 3 shared tensors hold other weights"),
    ],
)
def test_the_verb_follows_the_number_of_tensors(count: int, words: str) -> None:
    assert words in summary(OLD, NEW, moved(count, correlation=0.0))


def test_weights_that_were_turned_round_are_not_said_to_resemble_the_old_ones() -> None:
    changes = (*moved(5, state=State.EQUAL), change("encoder.layer.9.weight", State.CHANGED, correlation=-1.0))

    text = summary(OLD, NEW, changes)
    assert text.startswith("Partly replaced: 5 of 6 tensors are those of 1/model")
    assert "1 of 6 shared tensors holds other weights, which run against the old ones (correlation -1.00)" in text
    assert "still resemble" not in text


def test_weights_that_were_set_to_zero_are_no_fine_tune() -> None:
    blank = change("encoder.layer.9.weight", State.CHANGED, 1.0, new_norm=0.0, new_std=0.0, cosine=None)

    assert summary(OLD, NEW, (*moved(5, state=State.EQUAL), blank)).startswith("Partly replaced: 5 of 6 tensors")


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "A copy of 1/model in which 1 weight of 1 tensor differs:"), (3, "3 weights of 1 tensor differ:"), (32, "Fine-tune of")],
    ids=["one", "three", "a-row"],
)  # fmt: skip
def test_single_elements_that_differ_are_no_fine_tune(count: int, words: str) -> None:
    few = change("encoder.layer.9.weight", State.CHANGED, 0.01, changed_fraction=count / 640, shape=(20, 32))

    assert words in summary(OLD, NEW, (*moved(5, state=State.EQUAL), few))


def test_a_bias_of_two_that_was_trained_on_is_a_fine_tune() -> None:
    bias = change("head.bias", State.CHANGED, 0.01, shape=(2,))

    assert summary(OLD, NEW, (*moved(5, state=State.EQUAL), bias)).startswith("Fine-tune of 1/model")


def test_the_sentence_counts_the_tensors_that_the_table_counts() -> None:
    """Counters and classes are tensors too: of seven, three changed, whether they are trained or not."""
    old, new = (side(label, format="joblib", framework="scikit-learn", architecture="SVC") for label in "ab")
    whole = ("int64", "int64")
    changes = (
        change("coef_", State.CHANGED), change("intercept_", State.CHANGED), change("mean_"), change("scale_"),
        change("n_iter_", State.CHANGED, dtypes=whole), change("classes_", dtypes=whole), change("n_", dtypes=whole),
    )  # fmt: skip

    found = told(old, new, changes)
    assert found.states == {State.EQUAL: 4, State.CHANGED: 3}
    assert "3 of 7 shared tensors moved, typically by 6 %; 4 tensors did not move" in " ".join(found.summary)


def test_a_licence_is_named_and_not_the_size_of_its_file() -> None:
    sizes = item(Area.LICENCE, "LICENSE", 41, 70, effect=Effect.NOTE)
    named = item(Area.LICENCE, "licence", ["apache-2.0"], ["mit"], effect=Effect.NOTE)

    assert "The licence changed (LICENSE)." in summary(OLD, NEW, moved(state=State.EQUAL), (sizes,))
    assert "The licence changed: apache-2.0 → mit." in summary(OLD, NEW, moved(state=State.EQUAL), (sizes, named))


def test_two_values_that_look_alike_are_told_by_what_differs() -> None:
    same = item(Area.TOKENIZER, "vocab.txt", 600, 600, text="1 token added ('zzz')")
    near = item(Area.CONFIG, "config.json: eps", 0.1, 0.1000000001)

    assert "tokenizer vocab.txt changed: 1 token added ('zzz')" in summary(OLD, NEW, moved(state=State.EQUAL), (same,))
    assert "setting eps 0.1 → 0.1000000001" in summary(OLD, NEW, moved(state=State.EQUAL), (near,))


@pytest.mark.parametrize(
    ("text", "counts", "words"),
    [
        ("5 trees added, the first 10 are the same: training went on", (10, 15), "Trained on from 1/model: 5 trees added, the first 10 are the same."),
        ("1 of 30 trees differs", (30, 30), "Mostly the trees of 1/model: 1 of 30 trees differs."),
        ("30 of 30 trees differ", (30, 30), "Fitted anew"),
    ],
)  # fmt: skip
def test_trees_that_stayed_are_not_said_to_be_fitted_anew(text: str, counts: tuple[int, int], words: str) -> None:
    old, new = (
        side(label, format="xgboost", framework="xgboost", architecture="gbtree") for label in (OLD.label, NEW.label)
    )
    trees = item(Area.ARCHITECTURE, "m.json: trees", *counts, text=text)

    assert summary(old, new, (), (trees,)).startswith(words)


def test_the_same_trees_with_other_names_of_columns_are_said_to_be_the_same() -> None:
    old, new = (
        side(label, format="xgboost", framework="xgboost", architecture="gbtree") for label in (OLD.label, NEW.label)
    )
    columns = item(Area.SIGNATURE, "m.json: learner.feature_names", ["a"], ["b"])

    assert summary(old, new, (), (columns,)).startswith("The same trees as 1/model, with another signature.")


def test_names_that_differ_around_the_same_model_are_named() -> None:
    changes = tuple(change(f"module.{at}.weight", was=f"{at}.weight") for at in range(3))

    text = summary(OLD, NEW, changes)
    assert "only the names of its tensors differ, nothing" in text
    assert 'all under other names (prefix "module." added)' in text


def test_where_tensors_came_and_went_is_told_by_the_part_that_is_new() -> None:
    stayed = tuple(change(f"model.layers.{at}.w.weight", State.CHANGED, 0.1) for at in range(6))
    deeper = tuple(change(f"model.layers.{at}.w.weight", State.ADDED) for at in (6, 7))
    head = (change("cls.a.bias", State.REMOVED), change("cls.b.bias", State.REMOVED))

    text = summary(OLD, NEW, (*stayed, *deeper, *head))
    assert "2 tensors added (model.layers 6 and 7)" in text
    assert "2 tensors removed (cls)" in text


def test_equal_bytes_are_said_in_two_sentences() -> None:
    assert told(OLD, NEW, equal_bytes=True).summary == (
        "The same files as 1/model, byte for byte.",
        "Drop-in replacement: yes.",
    )


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([item(Area.TOKENIZER, "tokenizer.json: merges")], "The same weights as 1/model, with another tokenizer."),
        ([item(Area.TOKENIZER, "tokenizer_config.json: chat_template")], "with another chat template."),
        ([item(Area.CONFIG, "config.json: x", 1, 2), item(Area.CODE, "m.py")], "with other settings and other code."),
    ],
)  # fmt: skip
def test_the_same_weights_are_told_with_what_is_not_the_same(items, words: str) -> None:
    assert words in summary(OLD, NEW, moved(state=State.EQUAL), tuple(items))


def test_a_conversion_that_loses_nothing_is_the_same_model_in_another_format() -> None:
    old, new = (
        side(label, format=form, framework="pytorch") for label, form in (("a", "pytorch"), ("b", "safetensors"))
    )

    assert "The same model as a in another format (pytorch → safetensors)." in summary(
        old, new, moved(state=State.EQUAL)
    )


def test_a_cast_states_its_error_and_that_it_is_no_more_than_rounding() -> None:
    cast = moved(relative=0.0017, state=State.RECAST, dtypes=("float32", "bfloat16"), cast_error=0.0017)
    quantised = moved(relative=0.08, state=State.RECAST, dtypes=("float32", "q4_0"))

    text = summary(OLD, NEW, cast)
    assert "The same model as 1/model, kept as bfloat16." in text
    assert (
        "All 6 tensors went from float32 to bfloat16, which moved them by at most 0.17 %: what the rounding alone"
        in text
    )
    assert "quantised to q4_0." in summary(OLD, NEW, quantised)
    assert "by at most 8 %" in summary(OLD, NEW, quantised)


def test_integers_whose_scale_is_elsewhere_are_not_claimed_to_be_the_same_numbers() -> None:
    text = summary(OLD, NEW, moved(state=State.RECAST, dtypes=("float32", "int8"), compared=False))

    assert "without any loss" not in text
    assert "whether they stand for the same numbers was not compared" in text


def test_a_merged_adapter_is_told_by_its_rank_and_places() -> None:
    changes = tuple(
        change(f"layers.{at}.{part}_proj.weight", State.CHANGED, 0.1, rank=8) for at in range(3) for part in "qv"
    )

    text = summary(OLD, NEW, (*changes, change("embed.weight")))
    assert "An adapter was merged into 1/model: the same architecture" in text
    assert "Only changes of rank 8, in 6 matrices (q_proj and v_proj), as a merged adapter makes them" in text


def test_a_vocabulary_that_grew_is_told_in_rows() -> None:
    grown = change("wte.weight", State.RESHAPED, 0.0, shape=(12, 8), old_shape=(8, 8), shared=(8, 8))

    assert "wte.weight grew from 8 to 12 rows" in summary(OLD, NEW, (grown, *moved()))


def test_a_head_that_grew_with_the_vocabulary_is_not_another_head_and_one_that_grew_alone_is() -> None:
    grown = change("wte.weight", State.RESHAPED, 0.0, shape=(12, 8), old_shape=(8, 8), shared=(8, 8))
    lm_head = change("lm_head.weight", State.RESHAPED, 0.0, shape=(12, 8), old_shape=(8, 8), shared=(8, 8))

    assert "with another head" not in summary(OLD, NEW, (grown, lm_head, *moved()))
    assert "with another head" in summary(OLD, NEW, (lm_head, *moved()))


def test_a_dropped_prefix_is_told_once() -> None:
    changes = tuple(change(f"layer.{at}.weight", State.CHANGED, 0.1, was=f"bert.layer.{at}.weight") for at in range(3))

    assert 'all under other names (prefix "bert." dropped)' in summary(OLD, NEW, changes)


def test_retrained_weights_are_said_not_to_continue_the_old_ones() -> None:
    text = summary(OLD, NEW, moved(relative=2**0.5))

    assert "Retrained: the same architecture as 1/model, with weights that do not continue its own." in text
    assert "All 6 shared tensors hold other weights, which do not resemble the old ones (correlation 0.00)" in text


def test_weights_far_from_their_base_are_not_called_a_fine_tune_outright() -> None:
    assert "Looks like further training of 1/model" in summary(OLD, NEW, moved(relative=0.7))


def test_weights_that_became_nan_are_said_before_how_far_the_others_moved() -> None:
    text = summary(OLD, NEW, (*moved(), change("head.weight", State.CHANGED, 0.1, new_nonfinite=2)))

    assert "2 weights are NaN or infinite now, in head.weight." in text
    assert text.index("NaN") < text.index("shared tensors")


def test_what_was_not_compared_is_said_and_never_claimed() -> None:
    finding = Finding("diff-unread", Severity.INCOMPLETE, "blob.bin was not understood")
    changes = moved(state=State.UNREADABLE)

    assert "the elements of all 6 shared tensors were not compared" in summary(OLD, NEW, changes).lower()
    assert "moved" not in summary(OLD, NEW, changes)
    assert (
        "not everything could be compared: blob.bin was not understood"
        in summary(OLD, NEW, moved(), findings=(finding,)).lower()
    )


def test_weights_that_were_all_zero_have_no_relative_distance_to_tell() -> None:
    text = summary(OLD, NEW, moved(relative=float("inf")))

    assert "All 6 shared tensors" in text
    assert "inf" not in text
    assert "beyond measure" not in text


def test_nothing_in_common_is_said_plainly() -> None:
    text = summary(side("a", architecture="Bert"), unknown_side("./b"), (change("x", State.REMOVED),))

    assert text.startswith("Nothing ties it to a: Bert became something of an unknown format, and no tensor is shared.")


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("loss", 0.3, 0.4, "loss 0.3 → 0.4 (worse)"),
        ("eval_loss", 0.4, 0.3, "eval_loss 0.4 → 0.3 (better)"),
        ("f1", 0.4, 0.3, "f1 0.4 → 0.3 (worse)"),
        ("steps", 100, 200, "steps 100 → 200."),
    ],
)
def test_metrics_say_their_way_where_their_name_does(name: str, old: float, new: float, words: str) -> None:
    assert words in summary(OLD, NEW, moved(), (item(Area.METRICS, name, old, new, effect=Effect.NOTE),))


def test_licence_audit_and_dependencies_are_remarked() -> None:
    items = (
        item(Area.LICENCE, "license", "apache-2.0", "cc-by-nc-4.0", effect=Effect.NOTE),
        item(Area.AUDIT, "x.bin", None, "execute: the pickle names os.system", kind=ItemKind.ADDED),
        item(Area.AUDIT, "y", None, "note: nothing of weight", kind=ItemKind.ADDED, effect=Effect.NOTE),
        item(Area.DEPENDENCIES, "requirements.txt: flash-attn", None, "flash-attn", kind=ItemKind.ADDED),
    )

    text = summary(OLD, NEW, moved(), items)
    assert "The licence changed: apache-2.0 → cc-by-nc-4.0" in text
    assert "the audit finds: execute: the pickle names os.system" in text
    assert "nothing of weight" not in text
    assert "dependency flash-attn added" in text


@given(
    st.lists(st.sampled_from(list(State)), max_size=8),
    st.lists(st.sampled_from(list(Area)), max_size=8),
    st.lists(st.sampled_from(list(ItemKind)), min_size=8, max_size=8),
    st.floats(0, 3),
    st.text(max_size=80),
)
def test_whatever_differs_there_are_two_to_six_sentences_of_one_line(states, areas, kinds, relative, foreign) -> None:
    changes = tuple(change(f"layer.{at}.{foreign}", state, relative) for at, state in enumerate(states))
    items = tuple(item(area, foreign, foreign, at, kind=kinds[at]) for at, area in enumerate(areas))

    found = told(OLD, NEW, changes, items)
    assert 2 <= len(found.summary) <= 6
    assert found.drop_in.reasons
    for sentence in found.summary:
        assert sentence.endswith(".")
        assert sentence[0] == sentence[0].upper()
        assert all(letter.isprintable() for letter in sentence)


@pytest.mark.parametrize(
    ("old", "new", "called"),
    [
        (Side(label="a", reference="x/y:2"), Side(label="b", reference="x/y:3"), ("version 2", "version 3")),
        (Side(label="a", reference="x:2"), Side(label="b", reference="y:3"), ("x:2", "y:3")),
        (Side(label="./a"), Side(label="b", reference="y:3"), ("a", "y:3")),
        (Side(label="/tmp/1/b/model.bin"), Side(label="/tmp/2/b/model.bin"), ("1/…/model.bin", "2/…/model.bin")),
        (Side(label="./a"), Side(label="./a"), ("the old one", "the new one")),
    ],
)
def test_the_two_are_called_by_what_tells_them_apart(old: Side, new: Side, called: tuple[str, str]) -> None:
    assert names(old, new) == called
