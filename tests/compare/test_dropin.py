"""Whether new can take old's place, and why."""

from __future__ import annotations

import pytest
from comparisons import change, item, side, tokenizer, told, unknown_side

from assay.spec.changes import Answer, Area, ItemKind, State
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity

IN, OUT = Port("x", "float32", (None, 4)), Port("y", "float32", (None, 2))
INCOMPLETE = Finding("x-incomplete", Severity.INCOMPLETE, "the file ends early")
RUNS = Finding("huggingface-auto-map", Severity.EXECUTE, "loading this runs code from the artifact itself")


def onnx(label: str = "m", **fields: object):
    return side(
        label, **{"format": "onnx", "inputs": (IN,), "outputs": (OUT,), "requirements": ("onnxruntime",), **fields}
    )


def test_the_same_contract_is_a_drop_in_replacement_and_says_what_is_the_same() -> None:
    decision = told(onnx(), onnx(), (change("w", State.CHANGED),)).drop_in

    assert decision.answer is Answer.YES
    assert decision.reasons == ("the same format", "the same inputs", "the same outputs", "no new requirement")


def test_worse_metrics_do_not_stand_against_it() -> None:
    assert told(onnx(), onnx(), items=(item(Area.METRICS, "auc", 0.9, 0.1),)).drop_in.answer is Answer.YES


@pytest.mark.parametrize(
    ("old", "new", "answer", "because"),
    [
        (onnx(), onnx(inputs=(Port("z", "float32", (None, 4)),)), Answer.NO, "inputs have other names: z instead of x"),
        (onnx(), onnx(inputs=(IN, Port("z", "float32"))), Answer.NO, "1 input more: z"),
        (onnx(), onnx(outputs=(OUT, Port("z", "float32"))), Answer.YES, "1 output more: z"),
        (onnx(outputs=(OUT, Port("z", "float32"))), onnx(), Answer.NO, "1 output less: z"),
        (onnx(), onnx(inputs=(Port("x", "int64", (None, 4)),)), Answer.NO, "input x is int64[?, 4] instead of float32[?, 4]"),
        (onnx(), onnx(inputs=(Port("x", "float32", (None, 5)),)), Answer.NO, "input x is float32[?, 5] instead"),
        (onnx(), onnx(outputs=(Port("y", "float32", (None, 3)),)), Answer.NO, "output y is float32[?, 3] instead"),
        (onnx(), onnx(inputs=(Port("x", "float32", (1, 4)),)), Answer.NO, "input x is float32[1, 4] instead"),
        (onnx(inputs=(Port("x", "float32", (1, 4)),)), onnx(), Answer.YES, "the same inputs"),
        (onnx(), onnx(inputs=()), Answer.UNKNOWN, "it does not state its inputs any more"),
        (onnx(), onnx(requirements=("onnxruntime", "flash-attn")), Answer.NO, "it needs flash-attn now"),
        (onnx(), onnx(format="tflite"), Answer.UNKNOWN, "another format (onnx → tflite)"),
        (side(requirements=("transformers", "torch")), side(requirements=("transformers", "safetensors")), Answer.YES, "no new requirement"),
        (side(framework="pytorch"), side(framework="tensorflow"), Answer.NO, "another framework runs it: tensorflow"),
        (side(task="fill-mask"), side(task="text-classification"), Answer.NO, "another task"),
        (side(tokenizer=tokenizer(100)), side(tokenizer=tokenizer(101)), Answer.NO, "vocabulary grew from 100 to 101"),
        (side(tokenizer=tokenizer(100)), side(tokenizer=tokenizer(99)), Answer.NO, "vocabulary shrank"),
        (side(tokenizer=tokenizer()), side(), Answer.NO, "no tokenizer any more"),
        (
            side(tokenizer=tokenizer(special_tokens={"eos_token": "</s>"})),
            side(tokenizer=tokenizer(special_tokens={"eos_token": "<eos>"})),
            Answer.NO,
            "other special tokens: eos_token",
        ),
        (
            side(tokenizer=tokenizer(chat_template="a")),
            side(tokenizer=tokenizer(chat_template="b")),
            Answer.UNKNOWN,
            "another chat template",
        ),
        (side(format="joblib", requirements=("scikit-learn==1.9.0",)), side(format="joblib", requirements=("scikit-learn==1.9.1",)), Answer.YES, "no new requirement"),
        (side(format="joblib", requirements=("scikit-learn==0.24.2",)), side(format="joblib", requirements=("scikit-learn==1.9.1",)), Answer.UNKNOWN, "made with scikit-learn 1.9.1, the old one with 0.24.2"),
        (side(), side("n", Description(format="transformers", paths=("c",), findings=(INCOMPLETE,))), Answer.UNKNOWN, "n could not be read to its end"),
        (side(), side("n", Description(format="transformers", paths=("c",), findings=(RUNS,))), Answer.NO, "loading it runs or reaches"),
        (side("n", Description(format="transformers", paths=("c",), findings=(RUNS,))), side("m", Description(format="transformers", paths=("c",), findings=(RUNS,))), Answer.YES, "the same format"),
        (side(), unknown_side(), Answer.UNKNOWN, "nobody here knows the format of odd"),
        (side(), side(format="peft"), Answer.NO, "it is an adapter"),
        (side(format="peft"), side(), Answer.NO, "it is a whole model"),
    ],
)  # fmt: skip
def test_the_contract_decides(old, new, answer: Answer, because: str) -> None:
    decision = told(old, new, (change("w", State.CHANGED),)).drop_in

    assert decision.answer is answer
    assert any(because in reason for reason in decision.reasons), decision.reasons


@pytest.mark.parametrize(
    ("items", "answer", "because"),
    [
        ([item(Area.CONFIG, "config.json: num_labels", 2, 3)], Answer.NO, "its outputs changed: num_labels 2 → 3"),
        ([item(Area.CONFIG, "config.json: id2label.1", "no", "yes")], Answer.NO, "its outputs changed"),
        ([item(Area.CONFIG, "config.json: max_position_embeddings", 512, 256)], Answer.NO, "at most 256 instead of 512"),
        ([item(Area.CONFIG, "config.json: max_position_embeddings", 512, 1024)], Answer.YES, "the same format"),
        ([item(Area.CONFIG, "config.json: hidden_dropout_prob", 0.1, 0.2)], Answer.YES, "the same format"),
        ([item(Area.CONFIG, "config.json: auto_map.AutoModel", None, "x.X", kind=ItemKind.ADDED)], Answer.NO, "needs code of its own"),
        ([item(Area.CODE, "model.py")], Answer.UNKNOWN, "its code changed: model.py"),
        ([item(Area.PREPROCESSING, "preprocessor_config.json: size", 224, 256)], Answer.NO, "prepares its inputs in another way"),
        ([item(Area.PIPELINE, "steps: scale", None, "StandardScaler", kind=ItemKind.ADDED)], Answer.UNKNOWN, "other steps"),
        ([item(Area.FILES, "blob.bin")], Answer.UNKNOWN, "what is not understood differs: blob.bin"),
        ([item(Area.GRAPH, "model.onnx: opsets.ai.onnx", 15, 21)], Answer.UNKNOWN, "runtime of opset 21"),
        ([item(Area.GRAPH, "model.onnx: opsets.ai.onnx", 21, 15)], Answer.YES, "the same format"),
        ([item(Area.GENERATION, "generation_config.json: temperature", 0.1, 0.9)], Answer.YES, "the same format"),
        ([item(Area.LICENCE, "LICENSE")], Answer.YES, "the same format"),
    ],
)  # fmt: skip
def test_settings_and_files_of_the_contract_decide_and_others_do_not(items, answer: Answer, because: str) -> None:
    decision = told(side(), side(), (change("w", State.CHANGED),), tuple(items)).drop_in

    assert decision.answer is answer
    assert any(because in reason for reason in decision.reasons), decision.reasons


def test_the_length_of_vectors_counts_only_where_vectors_are_what_it_gives() -> None:
    wider = (item(Area.CONFIG, "config.json: hidden_size", 384, 768),)

    assert told(side(architecture="BertModel"), side(architecture="BertModel"), (), wider).drop_in.answer is Answer.NO
    assert (
        told(side(architecture="LlamaForCausalLM"), side(architecture="LlamaForCausalLM"), (), wider).drop_in.answer
        is Answer.YES
    )


def test_weights_that_became_nan_are_never_a_drop_in_replacement() -> None:
    spoiled = change("encoder.weight", State.CHANGED, new_nonfinite=3)
    ill_before = change("encoder.weight", State.CHANGED, new_nonfinite=3, old_nonfinite=3)

    assert told(onnx(), onnx(), (spoiled,)).drop_in.reasons[0] == "NaN or infinite weights appeared in encoder.weight"
    assert told(onnx(), onnx(), (spoiled,)).drop_in.answer is Answer.NO
    assert told(onnx(), onnx(), (ill_before,)).drop_in.answer is Answer.YES


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ((change("a"), change("b", State.ADDED)), "1 tensor new to code that loads it: b"),
        ((change("a"), change("b", State.REMOVED)), "1 tensor missing to code that loads it: b"),
        ((change("a", State.RESHAPED, shape=(4, 4), old_shape=(8, 8)),), "1 tensor of another shape"),
        ((change("encoder.a", was="bert.encoder.a"),), "1 tensor under another name (bert.encoder.a → encoder.a)"),
    ],
)
def test_bare_weights_must_hold_the_tensors_that_the_callers_code_knows(changes, because: str) -> None:
    bare, whole = side("p", format="pytorch"), side("t")

    decision = told(bare, bare, changes).drop_in
    assert decision.answer is Answer.NO
    assert any(because in reason for reason in decision.reasons), decision.reasons
    assert told(whole, whole, changes).drop_in.answer is Answer.YES


def test_integers_that_stand_for_weights_need_somebody_who_knows_their_scales() -> None:
    changes = (change("a", State.RECAST, dtypes=("float32", "int8"), compared=False),)

    decision = told(side("p", format="pytorch"), side("q", format="pytorch"), changes).drop_in
    assert decision.answer is Answer.UNKNOWN
    assert decision.reasons == ("its weights are int8 instead of float32: what runs it must know their scales",)


def test_an_optimizers_state_that_was_left_out_is_missed_by_nobody() -> None:
    bare = side("p", format="pytorch")

    assert told(bare, bare, (change("a"), change("optimizer.state.1", State.REMOVED))).drop_in.answer is Answer.YES


def test_another_head_gives_other_outputs_where_none_are_stated() -> None:
    changes = (change("bert.a"), change("cls.bias", State.REMOVED), change("classifier.weight", State.ADDED))

    assert told(side(), side(), changes).drop_in.reasons == ("another head: classifier instead of cls",)
    assert told(onnx(), onnx(), changes).drop_in.answer is Answer.YES


def test_what_was_not_compared_makes_it_unknown_and_a_no_stays_a_no() -> None:
    findings = (INCOMPLETE,)

    assert told(onnx(), onnx(), findings=findings).drop_in.answer is Answer.UNKNOWN
    assert told(onnx(), onnx(inputs=(Port("z", "string"),)), findings=findings).drop_in.answer is Answer.NO


def test_equal_bytes_are_a_drop_in_replacement_even_of_what_nobody_knows() -> None:
    assert told(unknown_side(), unknown_side(), equal_bytes=True).drop_in.answer is Answer.YES


def test_weights_alone_that_share_no_tensor_are_no_replacement() -> None:
    old, new = (side(label, format="pytorch") for label in ("a.pt", "b.pt"))

    for changes in ((change("a", State.REMOVED), change("b", State.ADDED)), (change("a", State.REMOVED),)):
        decision = told(old, new, changes).drop_in

        assert decision.answer is Answer.NO
        assert decision.reasons == ("code that loads the old one finds none of its tensors",)


def test_outputs_follow_a_batch_that_was_freed() -> None:
    def sized(batch: object, out: object = None):
        ports = (Port("x", "float32", (batch, 4)),), (Port("y", "float32", (out or batch, 2)),)
        return onnx(inputs=ports[0], outputs=ports[1])

    assert told(sized(1), sized("batch"), (change("w"),)).drop_in.answer is Answer.YES
    assert told(sized("batch"), sized(1), (change("w"),)).drop_in.answer is Answer.NO
    assert told(sized(1), sized("batch", "rows"), (change("w"),)).drop_in.answer is Answer.NO


@pytest.mark.parametrize(("format_name", "answer"), [("keras", Answer.YES), ("onnx", Answer.NO)])
def test_a_counter_in_a_name_is_no_name_where_keras_made_it(format_name: str, answer: Answer) -> None:
    old, new = (
        side("m", format=format_name, inputs=(Port(f"input_layer{end}", "float32"),), outputs=(Port(f"dense{end}", "float32"),))
        for end in ("", "_1")
    )  # fmt: skip

    assert told(old, new, (change("w"),)).drop_in.answer is answer


def test_a_requirement_that_a_file_states_now_has_to_be_there() -> None:
    stated = item(Area.DEPENDENCIES, "requirements.txt: flash-attn", None, "==2.0", kind=ItemKind.ADDED)

    decision = told(onnx(), onnx(), (change("w"),), (stated,)).drop_in
    assert (decision.answer, decision.reasons) == (Answer.NO, ("its requirements name flash-attn now",))


def test_a_less_exact_name_of_a_task_is_no_other_task() -> None:
    for one, other, answer in (
        ("classification", "multiclass-classification", Answer.YES),
        ("regression", "multiclass-classification", Answer.NO),
    ):
        assert told(onnx(task=one), onnx(task=other), (change("w"),)).drop_in.answer is answer


def test_the_other_form_of_a_catboost_file_is_opened_in_another_way() -> None:
    old, new = (side("m", format="catboost", framework="catboost", format_version=form) for form in ("cbm", "json"))

    assert told(old, new).drop_in.answer is Answer.UNKNOWN
    assert told(old, old).drop_in.answer is Answer.YES
