"""What a saved object says besides its tensors: its kind, settings, metrics and class.

Concept: conventions, not formats. A plain mapping of names to tensors is a state dict; training loops wrap it with an
optimizer, an epoch and a score; PyTorch Lightning does so under fixed keys; ``torch.save(model)`` writes
the object tree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.containers.pickle.values import Call
from assay.formats.pytorch.graph import as_json, attributes_of, key_text, mapping_of
from assay.formats.pytorch.rebuild import tensor_of
from assay.formats.pytorch.saved import Saved
from assay.formats.pytorch.state import MAX_COMPONENTS, Found, Role, component_of, is_module, whole_role
from assay.formats.pytorch.values import Malformed, class_of, shorten
from assay.spec.description import Component
from assay.spec.json import Json

_MAX_KEYS = 100
# Top-level keys and metrics that are listed.

_MAX_NAME = 200

_LARGE = 200
# A mapping with more entries is a state dict or data, not a wrapper that holds settings.

_LIGHTNING = "pytorch-lightning_version"
_SETTINGS = re.compile(
    r"(?:^|_)(?:args|kwargs|arguments|config|cfg|conf|hparams|settings|opt|options)$|hyper_?param", re.IGNORECASE
)
_METRIC = re.compile(
    r"acc|loss|f1|auc|mae|mse|rmse|score|metric|precision|recall|bleu|wer|cer$|psnr|ssim"
    r"|(?:^|_)map|perplexity|ppl|iou|dice|error|best",
    re.IGNORECASE,
)
_ARCHITECTURE = ("arch", "architecture", "model_name", "model_type", "arch_name")


@dataclass(slots=True)
class Story:
    """What a saved object says besides its tensors; fields as in ``Description``."""

    kind: str = "object"
    architecture: str | None = None
    hyperparameters: dict[str, Json] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)
    components: tuple[Component, ...] = ()
    requirements: tuple[str, ...] = ()


def read_story(saved: Saved, found: Found) -> Story:
    """Interpret the object of one file."""
    story = Story()
    pairs = mapping_of(saved.value)
    if isinstance(saved.value, Call) and is_module(saved.value):
        _module(story, saved.value)
    elif pairs is not None:
        _mapping(story, saved, found, {key_text(key): value for key, value in pairs})
    elif isinstance(saved.value, Call):
        _object(story, saved, saved.value)
    elif found.tensors:
        story.kind = "tensor" if len(found.tensors) == 1 and not isinstance(saved.value, (list, tuple)) else "tensors"
    if not story.components and found.modules:
        outermost = [(path, call) for path, call in found.modules if "." not in path][:16]
        budget = [MAX_COMPONENTS]
        story.components = tuple(component_of(path, call, budget) for path, call in outermost)
        story.architecture = story.architecture or (_short(class_of(outermost[0][1])) if outermost else None)
    return story


def _module(story: Story, module: Call) -> None:
    story.kind = "module"
    root = component_of("", module, [MAX_COMPONENTS])
    story.architecture = _short(root.kind)
    code = attributes_of(module).get("_code")
    if root.kind.endswith(".reduce_graph_module") and isinstance(code, str):
        story.architecture = "GraphModule"
        story.metadata["source_size"] = len(code)
    story.components = root.children
    story.hyperparameters.update(root.hyperparameters)
    story.metadata["class"] = root.kind
    training = attributes_of(module).get("training")
    if isinstance(training, bool):
        story.metadata["training"] = training


def _object(story: Story, saved: Saved, call: Call) -> None:
    try:
        if tensor_of(call) is not None:
            story.kind = "tensor"
            return
    except Malformed:
        return
    story.metadata["class"] = class_of(call)
    settings = as_json(saved.value)
    if isinstance(settings, Mapping):
        story.kind = "arguments" if re.search(r"Namespace|Arguments|Config", class_of(call)) else "object"
        story.architecture = None if story.kind == "arguments" else _short(class_of(call))
        story.hyperparameters = {key: value for key, value in settings.items() if key != "class"}
    elif settings is not None:
        story.metadata["value"] = settings


def _mapping(story: Story, saved: Saved, found: Found, top: dict[str, object]) -> None:
    direct = sum(1 for located in found.tensors if located.name in top)
    flat = bool(top) and direct == len(top)
    story.kind = "state dict" if flat else "checkpoint" if found.tensors else "mapping"
    if flat:
        _state_dict_metadata(story, saved.value)
        return
    story.metadata["top_level_keys"] = list(top)[:_MAX_KEYS]
    role = whole_role(saved.value)
    if role is not None:
        story.kind = "optimizer state" if role is Role.OPTIMIZER else "random state"
        if role is Role.OPTIMIZER:
            story.hyperparameters["optimizer"] = _param_groups(saved.value)
        return
    for key, value in top.items():
        _entry(story, saved, key, value)
        _inner_settings(story, value)
    if _LIGHTNING in top or {"hyper_parameters", "state_dict"} <= top.keys():
        _lightning(story, saved, top)


def _inner_settings(story: Story, value: object) -> None:
    inner = mapping_of(value) or []
    if len(inner) > _LARGE:
        return
    for key, part in inner:
        name = key_text(key)
        if _SETTINGS.search(name) and mapping_of(part) is not None and len(story.hyperparameters) < _MAX_KEYS:
            story.hyperparameters.setdefault(name, as_json(part))


def _entry(story: Story, saved: Saved, key: str, value: object) -> None:
    number = _number(saved, value)
    if key in _ARCHITECTURE and isinstance(value, str):
        story.architecture = shorten(value, 200)
    if number is not None:
        if _METRIC.search(key) and not isinstance(value, bool) and len(story.metrics) < _MAX_KEYS:
            if math.isfinite(number):
                story.metrics[key] = float(number)
        else:
            story.metadata[key] = as_json(value if isinstance(value, (bool, int, float)) else number)
    elif isinstance(value, str):
        story.metadata[key] = shorten(value)
    elif _is_optimizer(value):
        story.hyperparameters[key] = _param_groups(value)
    elif _SETTINGS.search(key) or re.search("sched", key, re.IGNORECASE):
        story.hyperparameters[key] = as_json(value)
    elif (_METRIC.search(key) or "history" in key) and mapping_of(value) is not None:
        _metric_mapping(story, saved, key, value)


def _metric_mapping(story: Story, saved: Saved, prefix: str, value: object, depth: int = 2) -> None:
    """Numbers in a mapping of metrics; of a list over epochs the last."""
    for key, item in mapping_of(value) or []:
        if depth > 0 and mapping_of(item) is not None:
            _metric_mapping(story, saved, f"{prefix}.{key_text(key)}"[:_MAX_NAME], item, depth - 1)
            continue
        number = _number(saved, item[-1] if isinstance(item, list) and item else item)
        if number is not None and math.isfinite(number) and len(story.metrics) < _MAX_KEYS:
            story.metrics[f"{prefix}.{key_text(key)}"] = float(number)


def _lightning(story: Story, saved: Saved, top: dict[str, object]) -> None:
    story.kind = "lightning checkpoint"
    version = top.get(_LIGHTNING)
    if isinstance(version, str):
        version = shorten(version, 60)
        story.metadata[_LIGHTNING] = version
        pinned = re.fullmatch(r"[0-9][0-9A-Za-z.]*", version)
        story.requirements = (f"pytorch-lightning=={version}" if pinned else "pytorch-lightning",)
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        chosen = as_json(top.get(key))
        if isinstance(chosen, Mapping):
            story.hyperparameters.pop(key, None)
            story.hyperparameters.update(chosen)
    for name, state in mapping_of(top.get("callbacks")) or []:
        pairs = {key_text(key): value for key, value in mapping_of(state) or []}
        if "best_model_score" in pairs or "best_score" in pairs:
            score = _number(saved, pairs.get("best_model_score", pairs.get("best_score")))
            monitor = pairs.get("monitor")
            label = shorten(monitor, 200) if isinstance(monitor, str) else key_text(name)[:100]
            if score is not None and math.isfinite(score):
                story.metrics.setdefault(f"best {label}", float(score))
        if isinstance(pairs.get("best_model_path"), str) and pairs["best_model_path"]:
            story.metadata["best_model_path"] = shorten(str(pairs["best_model_path"]))
    optimizers = top.get("optimizer_states")
    if isinstance(optimizers, list):
        story.hyperparameters["optimizers"] = [_param_groups(item) for item in optimizers[:8] if _is_optimizer(item)]
    for key in ("callbacks", "loops", "lr_schedulers"):
        story.hyperparameters.pop(key, None)


def _state_dict_metadata(story: Story, value: object) -> None:
    # nn.Module.state_dict() hangs a "_metadata" attribute (module prefix -> {"version": n}) on its OrderedDict.
    if not isinstance(value, Call):
        return
    versions: dict[str, Json] = {}
    for name, entry in mapping_of(attributes_of(value).get("_metadata")) or []:
        version = dict(mapping_of(entry) or []).get("version")
        if isinstance(version, int) and version > 1 and len(versions) < _MAX_KEYS:
            versions[key_text(name)] = version
    if versions:
        story.metadata["module_versions"] = versions


def _is_optimizer(value: object) -> bool:
    return isinstance(value, dict) and "param_groups" in value and "state" in value


def _param_groups(value: object) -> Json:
    groups = value.get("param_groups") if isinstance(value, dict) else None
    written: list[Json] = []
    for group in groups[:32] if isinstance(groups, list) else ():
        pairs = mapping_of(group) or []
        settings = {key_text(key): as_json(item, 64) for key, item in pairs if key_text(key) != "params"}
        written.append(settings)
    return written[0] if len(written) == 1 else written


def _number(saved: Saved, value: object) -> float | int | None:
    if isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else None
    try:
        tensor = tensor_of(value)
    except Malformed:
        return None
    return saved.number(tensor) if tensor is not None else None


def _short(dotted: str) -> str:
    return dotted.rpartition(".")[2]
