"""Models of each framework, loaded and asked in another process, out of reach of network and home.

The environment is the one that runs the tests, given as it is: building one per framework takes minutes and gigabytes
(docs/adr/0017-rehearsal.md has the figures of real builds). One is built for real, for scikit-learn.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import assay
from assay.errors import CouldNot, NotFound
from assay.rehearsal import running
from assay.sandbox.values import Isolation, Limits
from assay.spec.rehearsal import Check, Rehearsal

pytestmark = [
    pytest.mark.framework,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform != "linux", reason="a rehearsal is isolated by namespaces, which are Linux's"),
]
HERE = Path(sys.executable)
ROWS = np.random.default_rng(7).normal(size=(60, 3)).astype("float32")
LABELS = (ROWS[:, 0] > 0).astype("int64")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _weights(folder: Path) -> Path:
    """Arrays alone: the quickest thing to load."""
    file = folder / "weights.npz"
    np.savez(file, w=ROWS)
    return file


def _failed(outcome: Rehearsal) -> list[Check]:
    return [check for check in outcome.checks if not check.passed]


def _onnx() -> object:
    weights = numpy_helper.from_array(ROWS[:3], "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return assay.push(model, "m", example={"x": ROWS[:4]})


def _torchscript() -> object:
    import torch

    module = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.ReLU()))
    return assay.push(module, "m", example=torch.from_numpy(ROWS[:4]))


def _transformers() -> object:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = transformers.BertForSequenceClassification(config)
    return assay.push((model, tokenizer), "m", example=["good bad", "good"])


def _keras() -> object:
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])
    return assay.push(model, "m", example=ROWS[:4])


def _xgboost() -> object:
    import xgboost

    return assay.push(xgboost.XGBClassifier(n_estimators=3).fit(ROWS, LABELS), "m", example=ROWS[:4])


def _lightgbm() -> object:
    import lightgbm

    return assay.push(lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(ROWS, LABELS), "m", example=ROWS[:4])


@pytest.mark.parametrize(
    ("push", "calls"),
    [
        (_onnx, ["run"]),
        (_torchscript, ["call"]),
        (_transformers, ["call"]),
        (_keras, ["predict"]),
        (_xgboost, ["predict", "predict_proba"]),
        (_lightgbm, ["predict"]),
    ],
    ids=["onnx", "torchscript", "transformers", "keras", "xgboost", "lightgbm"],
)
def test_a_model_pushed_with_an_example_loads_and_answers_elsewhere(
    push: Callable[[], object], calls: list[str]
) -> None:
    push()

    outcome = assay.rehearse("m", environment=HERE, budget="load<300s,rss<8GB,size<10MB")

    assert _failed(outcome) == []
    assert outcome.example is not None
    assert outcome.example["calls"] == calls
    assert outcome.example["compared"] > 0
    assert outcome.trial.isolation["network"] is outcome.trial.isolation["home"] is True
    assert 0 < outcome.trial.import_seconds < outcome.trial.load_seconds
    assert outcome.trial.peak_memory > 20 << 20
    assert not outcome.trial.place.built


@pytest.mark.real
def test_an_environment_is_built_from_the_record_and_a_library_that_is_not_in_it_is_named(tmp_path: Path) -> None:
    # set_output wants pandas when it answers, which nothing in the fitted objects tells.
    steps = make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression())
    assay.push(steps.fit(ROWS, LABELS), "needs", example=ROWS[:4])
    assay.push(LogisticRegression().fit(ROWS, LABELS), "complete", example=ROWS[:4])

    complete = assay.rehearse("complete")
    needs = assay.rehearse("needs")

    assert _failed(complete) == []
    assert complete.trial.place.built
    assert not complete.trial.place.reused
    assert needs.trial.place.reused
    assert needs.trial.load_seconds is not None
    assert _failed(needs)[0].name == "dependencies"
    assert _failed(needs)[0].message == "needs pandas, which is not in its requirements: import pandas failed"
    assert list((tmp_path / "cache" / "assay" / "environments").glob("*/bin/python"))


def test_an_answer_that_differs_is_named_with_both_values() -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    wrong = model.predict(ROWS[:4])
    wrong[2] += 1
    assay.push(model, "m", example=(ROWS[:4], wrong))

    (check,) = _failed(assay.rehearse("m", environment=HERE))

    assert check.name == "example:predict"
    assert (check.expected, check.found) == (int(wrong[2]), int(wrong[2]) - 1)
    assert "predict differs: 1 of 4 numbers" in check.message
    assert "at [2]" in check.message


def test_a_model_that_wants_the_network_is_said_to(tmp_path: Path) -> None:
    # The configuration of this family fetches the backbone it names from the hub, also when everything else is local.
    folder = tmp_path / "detr"
    folder.mkdir()
    config = {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "backbone": "microsoft/resnet-18",
              "use_pretrained_backbone": True, "use_timm_backbone": False, "d_model": 8}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"class_labels_classifier.weight": np.zeros((3, 8), "float32")}, folder / "model.safetensors")
    assay.push(folder, "m")

    outcome = assay.rehearse("m", environment=HERE)

    assert _failed(outcome)[0].message == "the model wanted the network: huggingface.co:443"
    assert outcome.trial.network == ("huggingface.co:443",)


def test_weights_without_an_example_are_loaded_only(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    outcome = assay.rehearse("m", environment=HERE)

    assert outcome.passed
    assert outcome.example is None
    assert [check.name for check in outcome.checks] == ["network", "dependencies", "load"]


def test_an_example_for_files_that_give_no_answers_fails_with_what_was_loaded(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m", example=([1.0], [2.0]))

    (check,) = _failed(assay.rehearse("m", environment=HERE))

    assert "the example was not answered: an example cannot be run" in check.message


def test_the_outcome_is_kept_beside_the_version_unless_nobody_wants_it(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    assay.rehearse("m", environment=HERE, record=False)
    before = [said["kind"] for said in assay.show("m")["statements"]]
    outcome = assay.rehearse("m", environment=HERE)
    after = [said for said in assay.show("m")["statements"] if said["kind"] == "rehearsal"]

    assert "rehearsal" not in before
    assert [said["predicate"] for said in after] == [json.loads(json.dumps(outcome.to_json()))]


def test_the_home_of_the_person_is_not_there_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of a rehearsal, replaced by one that looks around."""
    spy = tmp_path / "spy.py"
    (Path.home() / ".assay-rehearsal-test").write_text("secret")
    spy.write_text(
        "import json, os, sys, pathlib\n"
        f"seen = [pathlib.Path({str(Path.home())!r}, '.assay-rehearsal-test').exists(), os.environ.get('SECRET')]\n"
        "task = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
        "entry = pathlib.Path(task['folder'], task['entries'][0])\n"
        "try:\n    entry.write_text('x'); seen.append('written')\nexcept OSError: seen.append('read-only')\n"
        "failure = {'kind': 'error', 'message': json.dumps(seen), 'module': '', 'during': 'load'}\n"
        "pathlib.Path(sys.argv[2]).write_text(json.dumps({'failure': failure, 'done': True}))\n"
    )
    monkeypatch.setattr(running.child, "__file__", str(spy))
    monkeypatch.setattr(running, "_PACKAGE", spy)
    monkeypatch.setenv("SECRET", "x")
    assay.push(_weights(tmp_path), "m")
    try:
        outcome = assay.rehearse("m", environment=HERE)
    finally:
        (Path.home() / ".assay-rehearsal-test").unlink()

    assert json.loads(outcome.trial.failure.message) == [False, None, "read-only"]


def test_a_process_that_takes_too_long_is_stopped_and_said_to_be(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    outcome = assay.rehearse("m", environment=HERE, limits=replace(running.LIMITS, seconds=0.001))

    assert _failed(outcome)[0].message == "it does not load: it was not done after 0.001 s and was stopped"
    assert [check.name for check in outcome.checks] == ["load"]  # of the network and the imports nothing is known


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("import time; time.sleep(3600)", "it was not done after {} s and was stopped"),
        ("import os; os.kill(os.getpid(), 11)", "the process was ended by the signal SIGSEGV"),
        ("import os; os._exit(0)", "the process ended with status 0"),
        ("print('x' * (3 << 20)); import time; time.sleep(60)", "it wrote more than 2 MiB of output and was stopped"),
    ],
    ids=["hangs", "crashes", "leaves", "prints"],
)
def test_a_model_that_ends_the_process_when_it_is_asked_did_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, said: str
) -> None:
    limits = running.LIMITS
    if "{}" in said:  # enough to load, however slow this machine is
        assay.push(_weights(tmp_path), "plain")
        begun = time.monotonic()
        assert assay.rehearse("plain", environment=HERE).passed
        limits = replace(limits, seconds=2 + math.ceil(2 * (time.monotonic() - begun)))
    # The program of a rehearsal, in which whatever is asked does this.
    copy = tmp_path / "copy"
    shutil.copytree(Path(assay.__file__).parent, copy / "assay", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "assay/rehearsal/trying.py").open("a") as program:
        program.write(f"\n\ndef _ask(*_):\n    {ends}\n    yield\n")
    monkeypatch.setattr(running, "_PACKAGE", copy / "assay")
    monkeypatch.setattr(running.child, "__file__", str(copy / "assay/rehearsal/child.py"))
    assay.push(_weights(tmp_path), "m", example=([1.0], [2.0]))

    outcome = assay.rehearse("m", environment=HERE, limits=limits)

    (check,) = _failed(outcome)
    assert check.message == f"the example was not answered: {said.format(limits.seconds)}"
    assert outcome.trial.load_seconds is not None


def test_an_error_of_torchscript_is_told_by_what_happened_not_where() -> None:
    import torch

    class Checks(torch.nn.Module):
        def forward(self, x):
            assert x.size(0) == 3, "three rows"
            return x

    assay.push(torch.jit.script(Checks()), "m", example=assay.Example(torch.ones(2), torch.ones(2)))

    (check,) = _failed(assay.rehearse("m", environment=HERE))

    assert check.message == "the example was not answered: RuntimeError: AssertionError: three rows"


def test_a_process_without_memory_is_an_answer_not_an_error(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    outcome = assay.rehearse("m", environment=HERE, limits=Limits(seconds=60, memory=40 << 20))

    assert not outcome.passed
    assert _failed(outcome)[0].name == "load"


def test_nothing_runs_where_it_cannot_be_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = running.run, []

    def weak(arguments, **options):
        seen.append(arguments)
        return replace(real(arguments, **options), isolation=Isolation("none", network=True))

    monkeypatch.setattr(running, "run", weak)
    assay.push(_weights(tmp_path), "m")

    with pytest.raises(CouldNot, match="the home folder was visible") as raised:
        assay.rehearse("m", environment=HERE)

    assert raised.value.code == "not-isolated"
    assert not any(running.child.__file__ in arguments for arguments in seen)
    assert [said["kind"] for said in assay.show("m")["statements"] if said["kind"] == "rehearsal"] == []


def test_without_isolation_it_runs_when_asked_to_and_says_so(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    outcome = assay.rehearse("m", environment=HERE, isolated=False)

    assert outcome.passed
    assert outcome.trial.isolation["files"] is False


def test_an_environment_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assay.push(_weights(tmp_path), "m")

    with pytest.raises(NotFound) as raised:
        assay.rehearse("m", environment=tmp_path / "nowhere")
    assert raised.value.code == "no-python"


def test_an_environment_without_what_the_loaders_need_is_not_blamed_on_the_model(tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    assay.push(_weights(tmp_path), "m")

    with pytest.raises(CouldNot, match="Assay's loaders cannot start in this environment") as raised:
        assay.rehearse("m", environment=tmp_path / "bare")
    assert raised.value.code == "environment-failed"
