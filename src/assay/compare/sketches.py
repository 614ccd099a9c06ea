"""Sketches of weights: a few elements of each tensor, so that a model can be held against a thousand others.

A sketch is a function of the artifact alone, so it is kept in a file known by the artifact's digest. Which elements are
taken depends on nothing but the tensor's dimensions, shortest first: the same tensor under another name, in another
file, dtype or order of axes (a kernel of Keras and of PyTorch) gives the same elements. They are taken in short runs at
scattered places, because a page of a file holds many.

    sketches/1/<two hex digits>/<hex>.sketch    one line of JSON, then the elements as little-endian float32
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import numpy as np
from numpy.typing import NDArray

from assay.artifact.reader import Artifact, numpy_dtype
from assay.errors import AssayError
from assay.spec.changes import State, TensorChange
from assay.spec.digest import Digest
from assay.spec.tensor import TensorSpec

LAYOUT = "1"
"""Folder below ``sketches``; goes up when sketches of one release cannot be held against those of another."""
ELEMENTS = 16_384
"""Elements of a sketch, shared among its tensors."""
FEWEST, MOST = 32, 2048
"""Elements of one tensor."""
TENSORS = 512
"""Tensors of a sketch."""
RUN = 8
"""Neighbouring elements that are taken together."""
DECODED = 256 << 20
"""Bytes of a tensor that does not lie plainly in its file, up to which it is decoded."""
_SMALLEST = 16

Elements = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Some elements of one tensor.

    Args:
        name, dtype, shape: of the tensor.
        elements: at ``positions``; empty where they are no plain numbers, or cannot be read.
        telling: whether they are varied enough to be known again: not all zeros or ones as at the start.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: Elements
    telling: bool

    @property
    def size(self) -> int:
        """Elements of the whole tensor."""
        return TensorSpec(self.name, self.dtype, self.shape).size

    @property
    def matrix(self) -> bool:
        """Whether at least two dimensions are larger than one."""
        return sum(count > 1 for count in self.shape) > 1


@dataclass(frozen=True, slots=True)
class Sketch:
    """Some elements of the trained tensors of an artifact.

    Args:
        format: of the leading description.
        tensors: in the order of the model.
    """

    format: str
    tensors: tuple[Sampled, ...]


def sampled(name: str, dtype: str, shape: tuple[int, ...], elements: Elements) -> Sampled:
    """A tensor with the elements that were taken of it."""
    telling = len(elements) >= _SMALLEST and len(np.unique(elements)) >= _SMALLEST // 2
    return Sampled(name, dtype, shape, elements, telling)


def positions(size: int, count: int) -> NDArray[np.int64]:
    """Which elements of a tensor are taken, counted with its longest axis last; fewer are the first ones of more.

    >>> positions(5, 32).tolist(), len(positions(10**6, 64)), bool((positions(99, 64)[:32] == positions(99, 32)).all())
    ([0, 1, 2, 3, 4], 64, True)
    """
    if size <= FEWEST:
        return np.arange(size, dtype=np.int64)
    runs = np.arange(-(-count // RUN), dtype=np.uint64)
    starts = (_mixed(runs + np.uint64(size)) % np.uint64(size - RUN + 1)).astype(np.int64)
    found: NDArray[np.int64] = (starts[:, None] + np.arange(RUN, dtype=np.int64)).ravel()[:count]
    return found


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): scattered, and the same everywhere."""
    mixed = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def sketch(artifact: Artifact) -> Sketch:
    """Take some elements of the trained tensors; an optimizer's state is no part of the model."""
    trained = [
        (name, tensor.spec)
        for name, tensor in artifact.tensors.items()
        if tensor.spec.trained
        and tensor.spec.size >= _SMALLEST
        and not TensorChange(state=State.ADDED, new=tensor.spec).beside_the_model
    ]
    chosen = _chosen(trained)
    count = min(MOST, max(FEWEST, ELEMENTS // max(1, len(chosen)) // RUN * RUN))
    tensors = [sampled(name, spec.dtype, spec.shape, _elements(artifact, name, spec, count)) for name, spec in chosen]
    leading = artifact.inspection.leading
    return Sketch(leading.format if leading else "unknown", tuple(tensors))


def remembered(folder: Path | None, manifest: Digest) -> Sketch | None:
    """The sketch that was kept of an artifact; None when there is none, or the file is damaged."""
    if folder is None:
        return None
    try:
        head, _, data = _file(folder, manifest).read_bytes().partition(b"\n")
        body = json.loads(head)
        if hashlib.sha256(data).hexdigest() != body["sha256"]:
            return None
        elements = np.frombuffer(data, "<f4")
        tensors, at = [], 0
        for name, dtype, shape, count, telling in body["tensors"]:
            part = elements[at : at + count]
            tensors.append(Sampled(str(name), str(dtype), tuple(map(int, shape)), part, bool(telling)))
            at += count
        return Sketch(str(body["format"]), tuple(tensors))
    except (OSError, ValueError, KeyError, TypeError, AssayError):
        return None


def remember(folder: Path | None, manifest: Digest, made: Sketch) -> None:
    """Keep a sketch; a home that cannot be written is searched all the same."""
    if folder is None:
        return
    data = b"".join(one.elements.astype("<f4").tobytes() for one in made.tensors)
    tensors = [[one.name, one.dtype, list(one.shape), len(one.elements), one.telling] for one in made.tensors]
    body = {"format": made.format, "sha256": hashlib.sha256(data).hexdigest(), "tensors": tensors}
    file = _file(folder, manifest)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{token_hex(8)}")
        try:
            scratch.write_bytes(json.dumps(body, separators=(",", ":")).encode() + b"\n" + data)
            scratch.replace(file)
        finally:
            scratch.unlink(missing_ok=True)


def forget(folder: Path, manifest: Digest) -> None:
    """Remove the sketch that was kept of an artifact."""
    _file(folder, manifest).unlink(missing_ok=True)


def _file(folder: Path, manifest: Digest) -> Path:
    return folder / LAYOUT / manifest.hex[:2] / f"{manifest.hex}.sketch"


def _chosen(trained: Sequence[tuple[str, TensorSpec]]) -> list[tuple[str, TensorSpec]]:
    """All tensors, or of very many the largest and an even spread of the rest, in the order of the model."""
    if len(trained) <= TENSORS:
        return list(trained)
    by_size = sorted(range(len(trained)), key=lambda at: -trained[at][1].size)
    largest, rest = by_size[: TENSORS * 3 // 4], sorted(by_size[TENSORS * 3 // 4 :])
    spread = [rest[at * len(rest) // (TENSORS // 4)] for at in range(TENSORS // 4)]
    return [trained[at] for at in sorted({*largest, *spread})]


def _elements(artifact: Artifact, name: str, spec: TensorSpec, count: int) -> Elements:
    """Elements of a tensor; none where they cannot be had for little."""
    nothing = np.empty(0, np.float32)
    if not spec.plain or spec.dtype.startswith("complex") or (spec.extent is None and (spec.nbytes or 0) > DECODED):
        return nothing
    try:
        numpy_dtype(spec)
        whole = artifact.tensors[name].numpy()
        whole = whole.transpose(np.argsort(spec.shape, kind="stable"))
        places = np.unravel_index(positions(spec.size, count), whole.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            found: Elements = np.asarray(whole[places]).astype(np.float32)
    except (AssayError, OSError, ValueError, TypeError):
        return nothing
    return found
