"""PyTorch checkpoints to safetensors: from the tensor index, without torch and without unpickling.

Every tensor becomes an entry under the name it has in the checkpoint; tensors that share bytes are written once each,
so that any reader finds every name. Numbers, text and lists beside them become a JSON file. What cannot be kept stops
the conversion unless only the weights are wanted; then it is dropped by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname
from typing import ClassVar

import numpy as np

from assay.artifact.reader import numpy_dtype
from assay.conversion.proving import same_tensors
from assay.conversion.structure import Structure, read_structure
from assay.conversion.writing import WORDS, write_safetensors
from assay.errors import BadFormat, InvalidInput, NotFound, StorageError
from assay.formats.pytorch.files import INDEX_SUFFIX, PyTorchFormat, read_saved
from assay.formats.pytorch.saved import Saved
from assay.formats.pytorch.state import Found, Located, Role, find_tensors
from assay.formats.safetensors.files import SafetensorsFormat
from assay.ports.converters import Converted, Dropped, Options
from assay.ports.formats import TensorReader
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Source, Tree
from assay.trees.window import FileSource

_PIECE = 8 << 20
_ENDINGS = (".pth.tar", ".pt.tar", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".tar")
_DAMAGE = frozenset({Severity.INCOMPLETE, Severity.MISLEAD})
_SHOWN = 5
_ARRAY = "numpy"
# Arrays of numpy lie inside the pickle: they are values, not tensors.


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of one file.

    Args:
        path: the file.
        target: the file it becomes.
        tensors: name in the result to what is written.
        saved: the file as it was read.
        structure: what it holds besides.
        dropped: what is left out.
        notes: what else is worth knowing.
    """

    path: str
    target: str
    tensors: Mapping[str, Located]
    saved: Saved
    structure: Structure
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


class TorchToSafetensors:
    """``.bin``, ``.pt``, ``.pth`` and ``.ckpt`` files, alone or in shards."""

    formats: ClassVar[Sequence[str]] = ("pytorch",)
    target = "safetensors"

    def __init__(self, write: Callable[..., None] = write_safetensors) -> None:
        self._write = write

    def obstacle(self, description: Description) -> str | None:
        """Without tensors there is nothing to convert, and a damaged file cannot be proved to be kept."""
        if not description.tensors:
            return "it holds no tensors"
        damage = next((found for found in description.findings if found.severity in _DAMAGE), None)
        return f"it cannot be read without doubt: {damage.message}" if damage else None

    def convert(self, tree: Tree, description: Description, out: Path, options: Options) -> Converted:
        """Write the tensors, and compare each with its source, read again.

        Raises:
            InvalidInput: it holds something that cannot be kept, or not be written (code ``not-convertible``).
            IntegrityError: a tensor is not the same (code ``not-equal``).
            BadFormat, StorageError: it cannot be read or written.
        """
        obstacle = self.obstacle(description)
        if obstacle:
            raise _refused(f"{description.paths[0]}: {obstacle}")
        files = [path for path in description.paths if not path.endswith(INDEX_SUFFIX)]
        plans = [_plan(tree, path, options) for path in files]
        written: list[str] = []
        for plan in plans:
            written += self._one(tree, plan, out)
        indexes = [path for path in description.paths if path.endswith(INDEX_SUFFIX)]
        written += [_index(index, plans, out) for index in indexes]
        names = {name: located.name for plan in plans for name, located in plan.tensors.items()}
        proof = same_tensors(_again(tree, description), _result(out, written), names, decode=decode)
        return Converted(
            files=tuple(written),
            replaced=description.paths,
            proof=proof,
            dropped=tuple(item for plan in plans for item in plan.dropped),
            notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        )

    def _one(self, tree: Tree, plan: _Plan, out: Path) -> list[str]:
        file = out / plan.target
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "pt"}
        if plan.structure.flat and plan.structure.module_metadata is not None:
            metadata["module_metadata"] = json.dumps(plan.structure.module_metadata, sort_keys=True)
        specs = [plan.saved.spec(name, located.tensor) for name, located in plan.tensors.items()]

        def pieces(spec: TensorSpec) -> Iterator[bytes]:
            return _elements(tree, plan.saved, spec, plan.tensors[spec.name])

        self._write(file, specs, pieces, metadata=metadata)
        if plan.structure.flat or any(item.where == _VALUES for item in plan.dropped):
            return [plan.target]
        beside = f"{plan.target.removesuffix('.safetensors')}.values.json"
        _write_json(out / beside, {"schema": 1, "of": basename(plan.target), "value": plan.structure.value})
        return [plan.target, beside]


_VALUES = "everything that is not a weight of the model"


def _plan(tree: Tree, path: str, options: Options) -> _Plan:
    saved = read_saved(tree, path)
    found = find_tensors(saved.value)
    structure = read_structure(saved.value, saved.globals)
    if found.truncated or found.malformed:
        raise _refused(f"{path}: {found.truncated or found.malformed[0][1]}")
    for located in found.tensors:
        if located.role is Role.MODEL or not options.weights_only:
            _check(path, saved, located)
    kept, dropped = _chosen(path, found, structure, weights_only=options.weights_only)
    views = [
        (item.tensor.storage.key, item.tensor.offset)
        for item in kept.values()
        if item.tensor.storage and item.tensor.size
    ]
    shared = len(views) - len({key for key, _ in views})
    notes = [f"{shared} tensors that shared bytes with others have their own now"] if shared else []
    if any(item.tensor.kind == "parameter" for item in kept.values()):
        notes.append("whether a parameter wants gradients is not kept")
    return _Plan(path, safe_name(path), kept, saved, structure, dropped, tuple(notes))


def _chosen(
    path: str, found: Found, structure: Structure, *, weights_only: bool
) -> tuple[dict[str, Located], tuple[Dropped, ...]]:
    """Which tensors are written under which names, and what is dropped.

    Raises:
        InvalidInput: something would be lost and nobody said that it may (code ``not-convertible``).
    """
    if not weights_only:
        if structure.lost:
            shown = "; ".join(f"{item.where}: {item.what}" for item in structure.lost[:_SHOWN])
            more = f" and {len(structure.lost) - _SHOWN} more" if len(structure.lost) > _SHOWN else ""
            raise InvalidInput(
                f"{path} holds what has no safe form: {shown}{more}",
                code="not-convertible",
                hint="--weights-only keeps the model's tensors and records what was dropped",
                dropped=len(structure.lost),
            )
        return {located.name: located for located in found.tensors if located.tensor.kind != _ARRAY}, ()
    kept = [located for located in found.tensors if located.role is Role.MODEL and located.tensor.kind != _ARRAY]
    if not kept:
        raise _refused(f"{path} holds no weights of a model")
    prefix = _prefix(kept, found, structure)
    names = {located.name.removeprefix(prefix): located for located in kept}
    if structure.flat and not structure.lost and len(kept) == len(found.tensors):
        return names, ()
    others = len(found.tensors) - len(kept)
    dropped = [Dropped(_VALUES, f"settings and values{f', {others} tensors' if others else ''}"), *structure.lost]
    return names, tuple(dropped)


def _prefix(kept: Sequence[Located], found: Found, structure: Structure) -> str:
    """The place in the checkpoint that all weights have in common: the mapping or module that is the model."""
    roots = [path for path, _ in found.modules] + sorted(structure.holders, key=len)
    for root in roots:
        if root and all(located.name.startswith(f"{root}.") for located in kept):
            return f"{root}."
    return ""


def _check(path: str, saved: Saved, located: Located) -> None:
    tensor = located.tensor
    what = None
    if tensor.kind == _ARRAY:
        return
    if tensor.kind not in ("tensor", "parameter"):
        what = f"is {tensor.kind}, which safetensors has no form for"
    elif tensor.dtype not in WORDS:
        what = f"holds {tensor.dtype}, which safetensors has no type for"
    elif tensor.lazy:
        what = f"waits for {', '.join(tensor.lazy)} to be applied"
    elif problem := saved.problem(tensor):
        what = f"cannot be read: {problem[1]}"
    if what:
        raise _refused(f"{path}: tensor {located.name!r:.200} {what}")


def _elements(tree: Tree, saved: Saved, spec: TensorSpec, located: Located) -> Iterator[bytes]:
    """A tensor's elements in C order, little-endian."""
    extent = spec.extent
    if extent is None:
        yield saved.elements(located.tensor)
        return
    source: Source = tree.source(extent.path)
    if spec.strides is None and not (spec.big_endian and numpy_dtype(spec).itemsize > 1):
        for start in range(0, extent.length, _PIECE):
            piece = source.read(extent.offset + start, min(_PIECE, extent.length - start))
            if not piece:
                raise BadFormat(f"{extent.path} ends inside tensor {spec.name!r:.200}", path=extent.path)
            yield piece
        return
    dtype = numpy_dtype(spec)
    array = np.frombuffer(source.read(extent.offset, extent.length), dtype)
    if spec.size and spec.strides is not None:
        steps = tuple(step * dtype.itemsize for step in spec.strides)
        array = np.lib.stride_tricks.as_strided(array, spec.shape, steps, writeable=False)
    yield np.ascontiguousarray(array).astype(dtype.newbyteorder("<"), copy=False).tobytes()


def _index(index: str, plans: Sequence[_Plan], out: Path) -> str:
    """Write the index of the shards anew, for the files they are now."""
    here = dirname(index)
    mine = [plan for plan in plans if dirname(plan.path) == here]
    weights = {name: basename(plan.target) for plan in mine for name in plan.tensors}
    size = sum(plan.saved.spec(name, item.tensor).nbytes or 0 for plan in mine for name, item in plan.tensors.items())
    target = Tree.sibling(index, safe_name(basename(index).removesuffix(".index.json")) + ".index.json")
    _write_json(out / target, {"metadata": {"total_size": size}, "weight_map": dict(sorted(weights.items()))})
    return target


def safe_name(path: str) -> str:
    """The name of the safetensors file that stands for a torch file: as Hugging Face calls them."""
    folder, name = dirname(path), basename(path)
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    stem = name[: len(name) - len(ending)] if ending and len(name) > len(ending) else name
    stem = re.sub(r"^pytorch_model(?=$|[.-])", "model", stem)
    return f"{folder}/{stem}.safetensors" if folder else f"{stem}.safetensors"


def _again(tree: Tree, description: Description) -> tuple[Tree, Description]:
    """The source, opened and described anew."""
    fresh = Tree({path: _reopened(tree.source(path)) for path in description.paths})
    form = PyTorchFormat()
    groups = form.detect(fresh)
    if len(groups) != 1:
        raise BadFormat(f"{description.paths[0]} is not what it was when it was read first")
    return fresh, form.describe(fresh, groups[0])


def _reopened(source: Source) -> Source:
    return FileSource(source.file) if isinstance(source, FileSource) else source


def _result(out: Path, written: Sequence[str]) -> tuple[Tree, Description]:
    tree = Tree({path: FileSource(out / path) for path in written})
    form = SafetensorsFormat()
    groups = form.detect(tree)
    if len(groups) != 1:
        raise BadFormat("what was written is not one safetensors model")
    found = form.describe(tree, groups[0])
    if found.findings:
        raise BadFormat(f"what was written is not right: {found.findings[0].message}")
    return tree, found


def decode(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    """Read a tensor of the source that does not lie plainly in its file."""
    form = PyTorchFormat()
    if found.format != form.name or not isinstance(form, TensorReader):
        raise NotFound(f"tensor {spec.name!r:.200} does not lie plainly in the file", code="tensor-not-readable")
    return form.tensor(tree, spec)


def _write_json(file: Path, body: Json) -> None:
    try:
        file.write_text(json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    except OSError as error:
        raise StorageError.of(error, f"cannot write {file}") from error


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message[:600], code="not-convertible")
