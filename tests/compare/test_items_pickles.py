"""Estimators and checkpoints: one change is one difference at its place, and saving again is none."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import torch
from item_diffs import NEVER, behaviours, items_between, notes
from safetensors.torch import save_file
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from assay.compare.comparing import compare
from assay.compare.sides import Options
from assay.spec.changes import Answer, Area, Effect, Item, Kinship
from assay.wiring.comparing import open_side

pytestmark = pytest.mark.framework
QUIET = Options(audit=False)

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression())]).fit(X, Y)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any, Any], list[Item]]:
    """``saved(old, new)``: what is told of two objects saved by joblib, or by what saves them."""

    def compare(old: Any, new: Any, name: str = "model.joblib") -> list[Item]:
        sides = []
        for side, thing in (("old", old), ("new", new)):
            (tmp_path / side).mkdir(exist_ok=True)
            target = tmp_path / side / name
            thing(target) if callable(thing) and not hasattr(thing, "fit") else joblib.dump(thing, target)
            sides.append(tmp_path / side)
        return items_between(*sides)

    return compare


def edited(model: Any, edit: Callable[[Any], None]) -> Any:
    other = copy.deepcopy(model)
    edit(other)
    return other


def hyperparameter(model: Pipeline) -> None:
    model.named_steps["clf"].C = 2.0


def fitted_scalar(model: Pipeline) -> None:
    model.named_steps["scale"].n_samples_seen_ = 61


def unknown_attribute(model: Pipeline) -> None:
    model.named_steps["clf"].threshold = 0.5


def another_class(model: Pipeline) -> None:
    model.steps[0] = ("scale", MinMaxScaler().fit(X))


def one_step_more(model: Pipeline) -> None:
    model.steps.insert(1, ("again", MinMaxScaler().fit(X)))


def one_step_less(model: Pipeline) -> None:
    del model.steps[0]


def other_order(model: Pipeline) -> None:
    model.steps.insert(0, ("again", MinMaxScaler().fit(X)))
    model.steps[0], model.steps[1] = model.steps[1], model.steps[0]


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (hyperparameter, "model.joblib: steps.clf.C"),
        (fitted_scalar, "model.joblib: steps.scale.n_samples_seen_"),
        (unknown_attribute, "model.joblib: steps.clf.threshold"),
        (another_class, "model.joblib: steps.scale.(class)"),
        (one_step_more, "model.joblib: steps.again"),
        (one_step_less, "model.joblib: steps.scale"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_edit_of_a_pipeline_is_one_difference(saved, pipeline, edit, place: str) -> None:
    assert behaviours(saved(pipeline, edited(pipeline, edit))) == [(Area.PIPELINE, place)]


def test_steps_in_another_order_are_told(saved, pipeline) -> None:
    old = edited(pipeline, one_step_more)
    new = edited(old, lambda model: model.steps.reverse())

    told = [item for item in saved(old, new) if item.area is Area.PIPELINE and item.effect is Effect.BEHAVIOUR]

    assert [(item.path, item.text) for item in told] == [("model.joblib: steps", "the order changed")]


@pytest.mark.parametrize(
    "again",
    [
        lambda model: lambda path: joblib.dump(model, path, compress=3),
        lambda model: lambda path: joblib.dump(model, path, compress=("xz", 1)),
        lambda model: lambda path: joblib.dump(model, path, protocol=2),
        lambda model: lambda path: path.write_bytes(pickle.dumps(model, 4)),
    ],
    ids=["zlib", "xz", "protocol-2", "pickle"],
)
def test_saving_an_estimator_again_changes_nothing(saved, pipeline, again) -> None:
    assert behaviours(saved(pipeline, again(pipeline))) == []


def test_a_forest_compressed_is_the_same_and_with_another_threshold_is_not(saved) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(X, Y)

    def other_threshold(model: RandomForestClassifier) -> None:
        model.estimators_[1].tree_.threshold[0] += 0.25

    assert behaviours(saved(forest, lambda path: joblib.dump(forest, path, compress=1))) == []
    assert behaviours(saved(forest, edited(forest, other_threshold))) == [
        (Area.PIPELINE, "model.joblib: estimators_.1.tree_.nodes")
    ]


def test_a_librarys_stamp_is_a_note_wherever_it_stands(saved, pipeline) -> None:
    old, new = pickle.dumps(pipeline, 4), pickle.dumps(pipeline, 4)
    version = pickle.loads(old).__getstate__()["_sklearn_version"].encode()
    newer = version[:-1] + b"9" if version[-1:] != b"9" else version[:-1] + b"8"

    items = saved(
        lambda path: path.write_bytes(old), lambda path: path.write_bytes(new.replace(version, newer)), "m.pkl"
    )

    assert [(item.area, item.effect, item.old, item.new) for item in items] == [
        (Area.DEPENDENCIES, Effect.NOTE, version.decode(), newer.decode())
    ]


def test_how_many_jobs_run_is_a_note(saved, pipeline) -> None:
    def jobs(model: Pipeline) -> None:
        model.named_steps["clf"].n_jobs = 4

    assert notes(saved(pipeline, edited(pipeline, jobs))) == [(Area.PARAMS, "model.joblib: steps.clf.n_jobs")]


def test_every_entry_of_a_vocabulary_counts(saved) -> None:
    vectorizer = TfidfVectorizer().fit(["a quick brown fox", "a lazy dog"])

    def swap(model: TfidfVectorizer) -> None:
        words = model.vocabulary_
        words["quick"], words["lazy"] = words["lazy"], words["quick"]

    found = behaviours(saved(vectorizer, edited(vectorizer, swap)))

    assert {path for _, path in found} == {"model.joblib: vocabulary_.quick", "model.joblib: vocabulary_.lazy"}


def test_an_estimator_in_skops_form_is_held_against_the_pickled_one(tmp_path: Path, pipeline) -> None:
    def compare(name: str, model: Any) -> list[Item]:
        for side in ("pickled", name):
            (tmp_path / side).mkdir(exist_ok=True)
        joblib.dump(pipeline, tmp_path / "pickled" / "model.joblib")
        skops.io.dump(model, tmp_path / name / "model.skops")
        return items_between(tmp_path / "pickled", tmp_path / name)

    assert behaviours(compare("same", pipeline)) == []
    other = compare("other", edited(pipeline, hyperparameter))
    assert behaviours(other) == [(Area.PIPELINE, "model.skops: steps.clf.C")]

    def scalar(model: Pipeline) -> None:
        model.named_steps["scale"].n_samples_seen_ = np.float64(61)

    assert behaviours(compare("scalar", edited(pipeline, scalar))) == [
        (Area.PIPELINE, "model.skops: steps.scale.n_samples_seen_")
    ]


def test_forms_that_cannot_be_held_against_each_other_are_not_called_the_same(tmp_path: Path) -> None:
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
    joblib.dump(forest, tmp_path / "old" / "model.joblib")
    skops.io.dump(forest, tmp_path / "new" / "model.skops")

    assert (Area.FORMAT, "format") in behaviours(items_between(tmp_path / "old", tmp_path / "new"))


def test_skops_saved_again_is_the_same_and_one_setting_is_one_difference(saved, pipeline) -> None:
    def dump(model: Any) -> Callable[[Path], None]:
        return lambda path: skops.io.dump(model, path)

    assert behaviours(saved(dump(pipeline), dump(copy.deepcopy(pipeline)), "m.skops")) == []
    assert behaviours(saved(dump(pipeline), dump(edited(pipeline, hyperparameter)), "m.skops")) == [
        (Area.PIPELINE, "m.skops!schema.json: steps.clf.C")
    ]


@pytest.mark.parametrize(("trees", "seed"), [(4, 0), (2, 1)])
def test_forests_in_skops_form_are_compared_to_their_end(saved, trees: int, seed: int) -> None:
    def dump(count: int, state: int) -> Callable[[Path], None]:
        return lambda path: skops.io.dump(RandomForestClassifier(count, random_state=state).fit(X, Y), path)

    found = saved(dump(2, 0), dump(trees, seed), "m.skops")
    told = [item for item in found if item.effect is Effect.BEHAVIOUR]
    assert told
    assert {item.area for item in told} == {Area.PIPELINE}
    assert not any("not understood" in (item.why or "") for item in told)


STATE = {"a.weight": torch.arange(16.0).reshape(4, 4), "a.bias": torch.ones(4), "n": torch.tensor(3)}


def torch_file(value: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path, **options)


def test_a_state_dict_in_another_order_or_layout_changes_nothing(saved) -> None:
    backwards = dict(reversed(STATE.items()))

    assert behaviours(saved(torch_file(STATE), torch_file(backwards), "m.pt")) == []
    legacy = torch_file(STATE, _use_new_zipfile_serialization=False)
    assert behaviours(saved(torch_file(STATE), legacy, "m.pt")) == []


def test_tensors_added_and_removed_are_not_told_here(saved) -> None:
    fewer = {name: tensor for name, tensor in STATE.items() if name != "a.bias"}

    assert behaviours(saved(torch_file(STATE), torch_file(fewer), "m.pt")) == []


@pytest.mark.parametrize(
    ("key", "old", "new", "expected"),
    [
        ("epoch", 1, 2, (Effect.NOTE, Area.PARAMS)),
        ("optimizer", {"lr": 0.1}, {"lr": 0.2}, (Effect.NOTE, Area.PARAMS)),
        ("val_loss", 0.5, 0.4, (Effect.NOTE, Area.METRICS)),
        ("config", {"dim": 4}, {"dim": 5}, (Effect.BEHAVIOUR, Area.CONFIG)),
        ("hyper_parameters", {"heads": 4}, {"heads": 8}, (Effect.BEHAVIOUR, Area.CONFIG)),
        ("threshold", 0.5, 0.6, (Effect.BEHAVIOUR, Area.CONFIG)),
    ],
)
def test_what_stands_beside_tensors_is_the_models_or_the_trainings(saved, key, old, new, expected) -> None:
    items = saved(
        torch_file({"state_dict": STATE, key: old}), torch_file({"state_dict": STATE, key: new}), "checkpoint.pt"
    )

    told = [(item.effect, item.area) for item in items if key in item.path]
    assert told == [expected]
    assert [item for item in items if item.effect is Effect.BEHAVIOUR and key not in item.path] == []


def test_another_container_of_the_same_tensors_is_a_note(saved, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir(exist_ok=True)
    torch.save(STATE, tmp_path / "old" / "pytorch_model.bin")
    save_file(STATE, tmp_path / "new" / "model.safetensors")

    items = items_between(tmp_path / "old", tmp_path / "new")

    assert behaviours(items) == []
    assert (Area.FORMAT, "format") in notes(items)


def test_settings_that_a_bare_container_cannot_hold_are_not_lost_in_silence(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    torch.save({"state_dict": STATE, "temperature": 0.5}, tmp_path / "old" / "pytorch_model.bin")
    save_file(STATE, tmp_path / "new" / "model.safetensors")

    assert (Area.FORMAT, "format") in behaviours(items_between(tmp_path / "old", tmp_path / "new"))


class Scaled(torch.nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.factor


class Shifted(Scaled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.factor


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules_are_compared_by_attributes_and_code(saved) -> None:
    first = Scaled(2)

    def like(module: Scaled) -> Scaled:
        module.load_state_dict(first.state_dict())
        return module

    def scripted(module: Scaled) -> Callable[[Path], None]:
        return lambda path: torch.jit.script(module).save(str(path))

    assert behaviours(saved(scripted(first), scripted(like(Scaled(2))), "m.pt")) == []
    assert behaviours(saved(scripted(first), scripted(like(Scaled(3))), "m.pt")) == [
        (Area.CONFIG, "m.pt!data.pkl: factor")
    ]
    assert Area.CODE in {area for area, _ in behaviours(saved(scripted(first), scripted(like(Shifted(2))), "m.pt"))}


def test_records_are_compared_beside_the_tensors_and_leave_nothing_unread(tmp_path: Path) -> None:
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    sides = []
    for side, options in (("old", {}), ("new", {"compress": 1})):
        (tmp_path / side).mkdir()
        joblib.dump(copy.deepcopy(forest), tmp_path / side / "model.joblib", **options)
        sides.append(open_side(str(tmp_path / side), NEVER))

    found = compare(*sides, Options(audit=False))

    assert found.complete
    assert not found.behaves_differently


@pytest.mark.parametrize("form", ["joblib", "pkl", "skops"])
@pytest.mark.parametrize(
    "classes",
    [["cat", "dog"], np.array(["no", "yess"], dtype=object), [3, 4]],
    ids=["text", "objects", "integers"],
)
def test_classes_with_other_names_are_other_answers(tmp_path: Path, form: str, classes: Any) -> None:
    def save(model: Any, side: str) -> Path:
        target = tmp_path / f"{side}.{form}"
        if form == "skops":
            skops.io.dump(model, target)
        else:
            target.write_bytes(pickle.dumps(model)) if form == "pkl" else joblib.dump(model, target)
        return target

    first = ["no", "yes"] if not isinstance(classes[0], int) else [0, 1]
    kind = object if isinstance(classes, np.ndarray) else None
    old, new = (LogisticRegression().fit(X, np.array(names, dtype=kind)[Y]) for names in (first, classes))

    found = compare(*(open_side(str(save(model, name)), NEVER) for model, name in ((old, "a"), (new, "b"))), QUIET)

    assert found.behaves_differently
    assert found.drop_in.answer is Answer.NO
    assert any("it gives other classes" in reason for reason in found.drop_in.reasons)
    assert "classes_" in " ".join(found.summary) + " ".join(item.path for item in found.items)


def test_numbers_and_texts_in_a_skops_file_are_told_by_where_they_are(tmp_path: Path) -> None:
    old, new = (GaussianNB().fit(scale * X, Y) for scale in (1.0, 2.0))
    for name, model in (("a", old), ("b", new)):
        skops.io.dump(model, tmp_path / f"{name}.skops")

    items = items_between(tmp_path / "a.skops", tmp_path / "b.skops")

    (found,) = [item for item in items if item.effect is Effect.BEHAVIOUR]
    assert (found.area, found.path) == (Area.PIPELINE, "b.skops: epsilon_")
    assert (found.old, found.new) == (pytest.approx(old.epsilon_), pytest.approx(new.epsilon_))


@pytest.mark.parametrize("save", [joblib.dump, skops.io.dump], ids=["joblib", "skops"])
def test_another_class_in_the_last_step_is_named_and_may_be_called_otherwise(tmp_path, pipeline, save) -> None:
    other = Pipeline([("scale", StandardScaler()), ("clf", RandomForestClassifier(3, random_state=0))]).fit(X, Y)
    for name, model in (("a", pipeline), ("b", other)):
        save(model, tmp_path / name)

    found = compare(*(open_side(str(tmp_path / name), NEVER) for name in "ab"), QUIET)

    assert found.kinship is Kinship.OTHER_ARCHITECTURE
    assert found.drop_in.answer is Answer.UNKNOWN
    assert (
        "another class (LogisticRegression → RandomForestClassifier): its methods may differ" in found.drop_in.reasons
    )


@pytest.mark.parametrize("save", [joblib.dump, skops.io.dump], ids=["joblib", "skops"])
def test_more_trees_and_more_words_are_the_same_estimator_fitted_anew(tmp_path: Path, save) -> None:
    words = [TfidfVectorizer().fit(texts) for texts in (["a bc", "de fg"], ["a bc", "de fg", "hi jk"])]
    trees = [GradientBoostingRegressor(n_estimators=count, random_state=0).fit(X, X[:, 0]) for count in (4, 6)]
    for kind, pair in (("words", words), ("trees", trees)):
        for name, model in zip("ab", pair, strict=True):
            save(model, tmp_path / f"{kind}-{name}")

        found = compare(*(open_side(str(tmp_path / f"{kind}-{name}"), NEVER) for name in "ab"), QUIET)

        assert found.kinship is Kinship.RETRAINED
        assert not any("other steps" in reason for reason in found.drop_in.reasons)
