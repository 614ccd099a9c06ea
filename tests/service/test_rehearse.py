"""Rehearse: what is asked, how the answers are judged, what is kept; the environment itself is played here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import CouldNot, InvalidInput, Refused
from assay.loaders.examples import encode
from assay.ports.rehearsal import Model, Needs
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.service.rehearse import Asked, recorded_example, rehearse
from assay.settings import Settings
from assay.spec.example import Example, Named, Output, Plain, Tolerance
from assay.spec.rehearsal import Failure, Place, Rehearsal, Trial, parse_budget
from assay.spec.statement import Statement
from assay.wiring.auditing import guard_of

PLACE = Place("3.11.7", "environment", "pip", requirements=("scikit-learn==1.9.1",))
GOOD = Trial(PLACE, {"mechanism": "namespaces"}, load_seconds=2.0, import_seconds=1.5, peak_memory=100_000_000)
EXAMPLE = Example(Plain([1.0]), (Output("predict", encode([0.5, 2.0])), Output("score", Plain(3))), captured=True)
ANSWERS = EXAMPLE.outputs


class Played:
    """A rehearser that saw what it is told to have seen."""

    def __init__(self, trial: Trial | Exception) -> None:
        self.trial = trial
        self.seen: list[tuple[Needs, Model, list[str]]] = []

    def rehearse(self, needs: Needs, model: Model, *, told: Callable[[str], None]) -> Trial:
        self.seen.append(
            (
                needs,
                model,
                sorted(str(file.relative_to(model.folder)) for file in model.folder.rglob("*") if file.is_file()),
            )
        )
        if isinstance(self.trial, Exception):
            raise self.trial
        return self.trial


@pytest.fixture
def run(registry: Registry, push, model: Path):
    """``run(trial, example=…, budget=…)``: the outcome and the rehearser that was asked."""

    def do(trial: Trial | Exception, **options) -> tuple[Rehearsal, Played]:
        example = options.pop("example", None)
        claims = Claims(example=example.to_json() if example else None, environment=options.pop("environment", None))
        version = push(options.pop("path", model), claims=claims).version
        played = options.pop("played", None) or Played(trial)
        settings = Settings(Path(registry.place), "tester")
        asked = Asked(parse_budget(options.pop("budget", "")) if options.get("budget") else (), **options)
        outcome = rehearse(
            registry,
            version,
            guard=guard_of(settings),
            rehearser=played,
            snapshots=settings.home / "snapshots",
            asked=asked,
        )
        return outcome, played

    return do


def _messages(outcome: Rehearsal) -> list[str]:
    return [check.message for check in outcome.checks if not check.passed]


def _kept(registry: Registry) -> list[dict]:
    version = registry.catalog.version("team/model")
    return [dict(said.predicate) for said in registry.statements(version.manifest, "rehearsal")]


def test_a_model_that_loads_and_answers_passes_and_is_recorded(run, registry: Registry) -> None:
    outcome, _ = run(replace(GOOD, outputs=ANSWERS), example=EXAMPLE)

    assert outcome.passed
    assert [check.name for check in outcome.checks] == [
        "network", "dependencies", "load", "example:predict", "example:score",
    ]  # fmt: skip
    assert outcome.example["compared"] == 3
    assert [kept["passed"] for kept in _kept(registry)] == [True]


def test_the_rehearser_gets_the_record_the_files_and_the_example_and_no_more(run) -> None:
    environment = {"distributions": {"numpy": "2.4.6"}}
    example = replace(EXAMPLE, modules=("pandas",))
    _, played = run(GOOD, example=example, environment=environment)

    ((needs, model, files),) = played.seen
    assert (needs.environment, needs.modules) == (environment, ("pandas",))
    assert "safetensors" in needs.described
    assert model.example == example
    assert sorted(model.entries) == files


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (
            replace(GOOD, load_seconds=None, failure=Failure("import", "No module named 'a.b'", "a.b")),
            "needs a, which is not in its requirements: import a.b failed",
        ),
        (
            replace(
                GOOD, failure=Failure("import", "libx.so: cannot open", "scikit_learn", "example"), outputs=ANSWERS[:1]
            ),
            "needs scikit_learn, which is installed and cannot be imported: libx.so: cannot open",
        ),
        (
            replace(
                GOOD, place=Place("3.11.7", "given"), load_seconds=None, failure=Failure("import", "No module", "a")
            ),
            "needs a, which is not in the environment that was given: No module",
        ),
        (replace(GOOD, outputs=ANSWERS, network=("hub:443",)), "the model wanted the network: hub:443"),
        (
            replace(GOOD, load_seconds=None, failure=Failure("ended", "it was killed")),
            "it does not load: it was killed",
        ),
        (
            replace(GOOD, outputs=ANSWERS[:1], failure=Failure("error", "ValueError: x", during="example")),
            "the example was not answered: ValueError: x",
        ),
        (
            replace(GOOD, outputs=(Output("predict", encode([0.5, 2.1])), ANSWERS[1])),
            (
                "predict differs: 1 of 2 numbers differ by more than is allowed, most at [1]: expected 2.0, found 2.1 "
                "(difference 0.1)"
            ),
        ),
    ],
    ids=["missing", "broken", "given", "network", "killed", "raises", "differs"],
)
def test_what_goes_wrong_is_said_in_one_sentence_and_recorded(run, registry: Registry, trial: Trial, said: str) -> None:
    outcome, _ = run(trial, example=EXAMPLE)

    assert not outcome.passed
    assert _messages(outcome)[0] == said
    assert [kept["passed"] for kept in _kept(registry)] == [False]


def test_an_output_is_named_where_it_lies(run) -> None:
    example = Example(Plain(1), (Output("run", Named({"a": Plain(1.0), "b": Plain([1.0, 2.0])})),))
    found = Output("run", Named({"a": Plain(1.0), "b": Plain([1.0, 5.0])}))

    outcome, _ = run(replace(GOOD, outputs=(found,)), example=example)

    assert _messages(outcome)[0].startswith("run['b'] differs: 1 of 2 numbers")


def test_a_tolerance_that_was_asked_for_comes_before_the_recorded_one(run) -> None:
    near = replace(GOOD, outputs=(Output("predict", encode([0.5, 2.1])), ANSWERS[1]))

    assert run(near, example=EXAMPLE, tolerance=Tolerance(0.1))[0].passed
    assert not run(near, example=EXAMPLE)[0].passed


@pytest.mark.parametrize(
    ("budget", "passed"),
    [
        ("load<2.5s,import<=1.5s,rss<0.2GB,size<1MB", True),
        ("load<2s", False),
        ("load<=2000ms", True),
        ("import<1s", False),
        ("rss<100MB", False),
        ("rss<=100MB", True),
        ("size<1B", False),
    ],
)
def test_a_budget_turns_measures_into_a_yes_or_no(run, budget: str, passed: bool) -> None:
    outcome, _ = run(GOOD, budget=budget)

    assert outcome.passed is passed
    assert outcome.budget == tuple(budget.split(","))
    assert passed or _messages(outcome)[0].startswith("over budget: ")


def test_what_was_not_measured_is_over_budget(run) -> None:
    outcome, _ = run(replace(GOOD, load_seconds=None, failure=Failure("ended", "x")), budget="load<9min")

    assert "over budget: load<9min was not measured" in _messages(outcome)


@pytest.mark.parametrize(
    "text", ["", "load", "load<3", "load<3kg", "cpu<3s", "load>3s", "rss<-1GB", "load<3s;rss<1GB", "load<1s,"]
)
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_budget(text)
    assert raised.value.code == "bad-budget"


@given(st.sampled_from(["load", "rss"]), st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_bound_holds_below_its_limit_and_not_above(name: str, limit: float, found: float) -> None:
    unit = {"load": "s", "rss": "B"}[name]
    (bound,) = parse_budget(f"{name}<{limit:.6f}{unit}")

    assert bound.holds(found) == (found < float(f"{limit:.6f}"))


def test_a_rehearsal_that_goes_like_an_earlier_one_speaks_again(run, registry: Registry) -> None:
    bad = replace(GOOD, load_seconds=None, failure=Failure("ended", "x"))
    for trial in (bad, GOOD, bad):
        run(trial)

    assert [kept["passed"] for kept in _kept(registry)] == [False, True, False]


def test_an_example_that_is_given_again_counts_again(registry: Registry, push, model: Path) -> None:
    other = replace(EXAMPLE, outputs=ANSWERS[:1])
    for example in (EXAMPLE, other, EXAMPLE, EXAMPLE):
        version = push(model, claims=Claims(example=example.to_json())).version

    assert recorded_example(registry, version.manifest) == EXAMPLE
    assert len(registry.statements(version.manifest, "example")) == 3


def test_without_an_example_it_is_loaded_only(run) -> None:
    outcome, played = run(GOOD)

    assert outcome.passed
    assert outcome.example is None
    assert played.seen[0][1].example is None


def test_what_is_not_safe_reaches_no_environment(run, registry: Registry, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    played = Played(GOOD)

    with pytest.raises(Refused) as raised:
        run(GOOD, path=tmp_path / "bad", played=played)

    assert raised.value.code == "not-safe"
    assert played.seen == []
    assert _kept(registry) == []


def test_when_the_environment_cannot_be_built_nothing_is_recorded(run, registry: Registry) -> None:
    with pytest.raises(CouldNot):
        run(CouldNot("no", code="environment-failed"))

    assert _kept(registry) == []


def test_nothing_is_recorded_when_nobody_wants_it(run, registry: Registry) -> None:
    run(GOOD, record=False)

    assert _kept(registry) == []


def test_the_newest_example_speaks(run, registry: Registry, push, model: Path) -> None:
    version = push(model, claims=Claims(example=EXAMPLE.to_json())).version
    newer = Example(Plain([1.0]), (Output("predict", Plain(1)),))
    later = datetime.now(UTC).replace(microsecond=0, year=2100)
    registry.attach(Statement(version.manifest, "example", newer.to_json(), later), registry.manifest(version))

    outcome, played = run(replace(GOOD, outputs=newer.outputs))

    assert outcome.passed
    assert played.seen[0][1].example == newer
