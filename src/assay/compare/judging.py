"""What a change inside a pickle or checkpoint is about: the model's settings, or what training left beside it."""

from __future__ import annotations

import re

from assay.compare.gathering import Judge, Judgement
from assay.compare.noise import noise
from assay.compare.pickled import MOVED
from assay.compare.values import Change
from assay.spec.changes import Area, Effect

_STAMP = Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library's own stamp")
_MOVED = Judgement(Area.DEPENDENCIES, Effect.NOTE, MOVED)
_HOW = Judgement(Area.PARAMS, Effect.NOTE, "how it is run, not what comes out")
_VERSIONS = Judgement(Area.METADATA, Effect.NOTE, "versions of module classes that torch keeps beside the tensors")
_TRAINING = Judgement(Area.PARAMS, Effect.NOTE, "used only to go on training")
_MEASURED = Judgement(Area.METRICS, Effect.NOTE, "what was measured does not change what is computed")

_RUNNING = frozenset({"n_jobs", "verbose", "verbosity"})
_TRAINING_KEY = re.compile(
    r"(?:lr_?|.*_)?(?:optimi[sz]ers?|schedulers?|scalers?)(?:_states?|_state_dicts?|_dict)?|lr_schedulers|optimizer_states"
    r"|rng_states?|(?:cuda_)?rng_state.*|epochs?|global_step|steps?|iterations?|iter|loops|callbacks|trainer_args"
    r"|training_args|train_args|amp_scaling_state|grad_scaler|start_epoch|last_epoch|batch_idx"
)
_METRIC_KEY = re.compile(
    r"training_history|history|metrics?|best_.*|(?:train|val|valid|test)_?(?:loss|losses|acc|accuracy|metrics?)|loss|losses"
)
_LIGHTNING = frozenset({"pytorch-lightning_version", "lightning_version", "hparams_name"})


def judge_pickled(path: str) -> Judge:
    """Changes in a pickled estimator or in any other pickled object."""

    def judge(change: Change) -> Judgement:
        known = _anywhere(path, change)
        return known or Judgement(Area.PIPELINE)

    return judge


def judge_torch(path: str) -> Judge:
    """Changes in what torch saved beside tensors: the top level says what is the model's and what is the training's."""

    def judge(change: Change) -> Judgement:
        known = _anywhere(path, change)
        if known:
            return known
        first = str(change.keys[0]) if change.keys else ""
        if first in _LIGHTNING:
            return _STAMP
        if _TRAINING_KEY.fullmatch(first):
            return _TRAINING
        if _METRIC_KEY.fullmatch(first):
            return _MEASURED
        return Judgement(Area.CONFIG)

    return judge


def judge_script(path: str) -> Judge:
    """Changes in the attributes and constants of a TorchScript module."""

    def judge(change: Change) -> Judgement:
        return _anywhere(path, change) or Judgement(
            Area.ARCHITECTURE if change.keys[-1:] == ("(class)",) else Area.CONFIG
        )

    return judge


def _anywhere(path: str, change: Change) -> Judgement | None:
    names = [key for key in change.keys if isinstance(key, str)]
    if change.text == MOVED:
        return _MOVED
    if "(attributes)" in names and "_metadata" in names:
        return _VERSIONS
    if names and names[-1] in _RUNNING:
        return _HOW
    why = noise(path, change)
    if why:
        return Judgement(_STAMP.area if "library" in why else Area.METADATA, Effect.NOTE, why)
    return None
