"""Reading a plain folder of checkpoints: each child is a version, in the order their names tell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from assay.errors import BadFormat, NotFound
from assay.importers.documents import mapping, numbers_of
from assay.importers.local import files_in, small_file
from assay.ports.importers import Offered

_DATE = re.compile(
    r"(?<!\d)(20\d\d|19\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
    r"(?:[-_.T ]?([01]\d|2[0-3])[-_.:h]?([0-5]\d)(?:[-_.:m]?([0-5]\d))?)?(?!\d)",
    re.ASCII,
)
_METRIC = re.compile(r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9_/]*)=(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)", re.ASCII)
_COUNT = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_SAVED = re.compile(r"checkpoint-\d+", re.ASCII)
_STATE = "trainer_state.json"
_MAX_STATE = 16 << 20
_TRAINED = frozenset({"epoch", "global_step", "max_steps", "num_train_epochs", "train_batch_size"})
_STEPS = frozenset({"epoch", "step", "iter", "iteration", "global_step", "ckpt", "checkpoint", "v", "version"})


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A folder whose children (files or folders) are versions of one model.

    The order is that of the dates in their names, where all have one; else that of the numbers in them (steps, epochs,
    versions), where all have some; else that of the times at which they were written. ``key=number`` in a name, as
    Lightning writes it (``epoch=3-val_loss=0.21.ckpt``), is a metric unless it counts steps.

    Of an output folder of Hugging Face's Trainer only the ``checkpoint-N`` in it are versions, with the metrics that it
    wrote down at that step.

    Args:
        folder: holds the checkpoints; hidden children are left out.
        model: how the model is called; the folder's name when None.
    """

    folder: Path
    model: str | None = None
    system: str = "folder"

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def offered(self) -> Iterator[Offered]:
        """Every child, oldest first.

        Raises:
            NotFound: there is no such folder, or nothing in it (code ``import-source-missing``).
        """
        try:
            children = [child for child in self.folder.iterdir() if not child.name.startswith(".")]
        except OSError as error:
            raise NotFound(
                f"cannot read the folder {self.folder}: {error.strerror}", code="import-source-missing"
            ) from error
        if not children:
            raise NotFound(
                f"there are no checkpoints in {self.folder}: it is empty",
                code="import-source-missing",
                hint="name the folder whose files or folders are the checkpoints",
            )
        saved = [child for child in children if _SAVED.fullmatch(child.name) and (child / _STATE).is_file()]
        for child in in_order(saved or children):
            yield self._offer(child)

    def _offer(self, child: Path) -> Offered:
        params, metrics = _numbers(child.name)
        state = small_file(child / _STATE, _MAX_STATE)
        if state is not None:
            steps, measured = _trained(state, str(child / _STATE))
            params, metrics = params | steps, metrics | measured
        moment = dated(child.name) or datetime.fromtimestamp(_written(child), UTC)
        return Offered(
            model=self.model or self.folder.resolve().name,
            label=child.name,
            created=moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
            metrics=metrics,
            params=params,
            where=str(child),
            open=partial(files_in, child),
        )


def in_order(children: list[Path]) -> list[Path]:
    """Checkpoints from the oldest to the newest."""
    dates = {child: dated(child.name) for child in children}
    if all(dates.values()):
        return sorted(children, key=lambda child: (dates[child], child.name))
    counts = {child: _counts(child.name) for child in children}
    if all(counts.values()):
        return sorted(children, key=lambda child: (counts[child], child.name))
    return sorted(children, key=lambda child: (_written(child), child.name))


def dated(name: str) -> datetime | None:
    """The date, and time of day where there is one, in a name; UTC.

    >>> dated("model-2026-01-31.pt").isoformat()
    '2026-01-31T00:00:00+00:00'
    >>> dated("20260131_1205.joblib").isoformat()
    '2026-01-31T12:05:00+00:00'
    """
    found = _DATE.search(name)
    if found is None:
        return None
    try:
        return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None


def _counts(name: str) -> tuple[tuple[int, ...], ...]:
    """Numbers in a name without its ending and without metrics, in order: ``v1.10`` comes after ``v1.9``."""
    stem = _METRIC.sub(lambda found: found.group() if _is_step(found.group(1)) else "", name)
    stem = re.sub(r"\.[A-Za-z][A-Za-z0-9]*$", "", stem)
    return tuple(tuple(int(part) for part in number.split(".")) for number in _COUNT.findall(stem))


def _numbers(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Steps and metrics that a name states."""
    steps: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for key, text in _METRIC.findall(re.sub(r"\.[A-Za-z][A-Za-z0-9]*$", "", name)):
        value = float(text)
        if not math.isfinite(value):
            continue
        if _is_step(key):
            steps[key] = int(value) if value.is_integer() else value
        else:
            metrics[key] = value
    return steps, metrics


def _trained(state: bytes, what: str) -> tuple[dict[str, float], dict[str, float]]:
    """Steps, and the metrics at the last of them, of what Hugging Face's Trainer wrote down beside a checkpoint.

    Source: ``transformers/trainer_callback.py``, ``TrainerState``.
    """
    try:
        body = mapping(state, what)
    except BadFormat:
        return {}, {}  # it is a file of the checkpoint like any other, and is stored
    steps = {key: value for key, value in numbers_of(body).items() if key in _TRAINED}
    history = body.get("log_history")
    metrics: dict[str, float] = {}
    for entry in history if isinstance(history, list) else ():
        if isinstance(entry, dict) and entry.get("step") == body.get("global_step"):
            metrics |= {key: value for key, value in numbers_of(entry).items() if key not in _TRAINED | {"step"}}
    return {key: int(value) if value.is_integer() else value for key, value in steps.items()}, metrics


def _written(child: Path) -> float:
    """When a file or folder was last changed; a link that leads nowhere has a time of its own."""
    return child.lstat().st_mtime


def _is_step(key: str) -> bool:
    return key.lower() in _STEPS
