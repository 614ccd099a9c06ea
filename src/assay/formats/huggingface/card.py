"""What a model card, and the result files a trainer leaves beside it, say about a model.

The card's front matter is YAML between two ``---`` lines at the top of README.md; its keys are those of the hub's model
card metadata specification. ``trainer_state.json`` is written by the Trainer of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assay.containers.documents import parse_yaml, plain
from assay.errors import BadFormat
from assay.formats.huggingface.folder import Folder
from assay.spec.description import RunLink
from assay.spec.finding import Severity
from assay.spec.json import Json

MAX_CARD = 8 << 20
MAX_METRICS = 500
"""Metrics kept: an embedding benchmark's card has thousands."""
_MAX_LIST = 64
_TIMINGS = ("_runtime", "_per_second", "_memory", "total_flos")


@dataclass(slots=True)
class Card:
    """The card's statements; empty where it makes none."""

    licenses: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)


def read_card(folder: Folder) -> Card:
    """The front matter of README.md; an unreadable one is a finding."""
    text = folder.text("README.md", MAX_CARD)
    block = _front_matter(text) if text else None
    if block is None:
        return Card()
    try:
        value = parse_yaml(block, folder.path("README.md"))
    except BadFormat as error:
        folder.report("bad-card", Severity.INCOMPLETE, error.message, "README.md")
        return Card()
    if not isinstance(value, Mapping):
        return Card()
    card = Card(
        licenses=_texts(value.get("license_name") if value.get("license") == "other" else value.get("license")),
        languages=_texts(value.get("language")),
        base_models=_texts(value.get("base_model")),
        pipeline_tag=_text(value.get("pipeline_tag")),
        library=_text(value.get("library_name")),
        metrics=dict(_model_index(value.get("model-index"))),
    )
    for key in ("tags", "datasets", "metrics", "base_model_relation", "license_link", "widget", "inference"):
        if key in value:
            card.metadata[f"card_{key}"] = plain(value[key], text=200, items=50, depth=4)
    return card


def read_trainer(folder: Folder) -> tuple[dict[str, float], RunLink | None]:
    """Metrics and the run recorded by the Trainer: the newest value of everything it logged."""
    metrics: dict[str, float] = {}
    run = None
    state = folder.object("trainer_state.json")
    if "global_step" in state:
        history = state.get("log_history")
        for entry in history if isinstance(history, Sequence) and not isinstance(history, str) else ():
            metrics.update(_numbers(entry, skip=("step", "epoch")))
        metrics.update(_numbers({"best_metric": state.get("best_metric")}))
        kept = ("global_step", "max_steps", "epoch", "num_train_epochs", "best_model_checkpoint", "trial_name")
        extra = {key: plain(state[key]) for key in kept if state.get(key) is not None}
        run = RunLink("huggingface-trainer", run_id=_text(state.get("trial_name")), extra=extra)
    for name in ("train_results.json", "eval_results.json", "all_results.json"):
        metrics.update(_numbers(folder.object(name)))
    return dict(list(metrics.items())[:MAX_METRICS]), run


def _front_matter(text: str) -> str | None:
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None
    for index, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:index])
    return None


def _model_index(index: Json) -> Iterator[tuple[str, float]]:
    """Numbers of ``model-index`` as ``dataset/metric``."""
    count = 0
    for model in _objects(index):
        for result in _objects(model.get("results")):
            dataset = result.get("dataset")
            about = dataset if isinstance(dataset, Mapping) else {}
            parts = [about.get("name") or about.get("type"), about.get("config"), about.get("split")]
            label = " ".join(str(part) for part in parts if part and part != "default")
            for metric in _objects(result.get("metrics")):
                name = f"{label}/{metric.get('name') or metric.get('type')}"[:200]
                for number in _numbers({name: metric.get("value")}).values():
                    count += 1
                    if count > MAX_METRICS:
                        return
                    yield name, number


def _objects(value: Json) -> Iterator[Mapping[str, Json]]:
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        if isinstance(item, Mapping):
            yield item


def _numbers(entry: Json, skip: Sequence[str] = ()) -> dict[str, float]:
    """The finite numbers of an object, without timings."""
    if not isinstance(entry, Mapping):
        return {}
    return {
        key[:200]: float(value)
        for key, value in entry.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e300
        and math.isfinite(value)
        and key not in skip
        and not any(timing in key for timing in _TIMINGS)
    }


def _text(value: Json) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _texts(value: Json) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value[:200],) if value else ()
    if not isinstance(value, Sequence):
        return ()
    return tuple(item[:200] for item in value[:_MAX_LIST] if isinstance(item, str) and item)
