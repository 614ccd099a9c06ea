"""Convert: a model's unsafe files become safe ones in a new folder, each proved to be the same.

The folder appears whole or not at all: everything is made in a hidden folder beside it, which is renamed when every
proof was given. Files that no converter takes are copied as they are, and named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from assay.errors import AssayError, Conflict, InvalidInput, StorageError
from assay.ports.converters import Converted, Converter, Options
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.trees import Source, Tree

_PIECE = 8 << 20
SCHEMA = 1
DEFAULT = Options()


@dataclass(frozen=True, slots=True)
class Step:
    """One model that was converted.

    Args:
        source: name of the format it had.
        target: name of the one it has now.
        made: what its converter says.
        before: entry it was made from to its sha256.
        after: entry it became to its sha256.
    """

    source: str
    target: str
    made: Converted
    before: Mapping[str, str]
    after: Mapping[str, str]

    def to_json(self) -> dict[str, Json]:
        """The step as a JSON object."""
        return {
            "from": self.source,
            "to": self.target,
            "sources": dict(self.before),
            "results": dict(self.after),
            "proof": self.made.proof.to_json(),
            "isolation": dict(self.made.isolation) if self.made.isolation is not None else None,
            "dropped": [item.to_json() for item in self.made.dropped],
            "notes": list(self.made.notes),
        }


@dataclass(frozen=True, slots=True)
class Conversion:
    """The outcome of a conversion.

    Args:
        folder: where the files are.
        steps: what was converted.
        kept: entries of models that stay as they were, and why.
        record: what a ``conversion`` statement says.
    """

    folder: Path
    steps: tuple[Step, ...]
    kept: Mapping[str, str]
    record: Mapping[str, Json]


def convert(
    tree: Tree,
    inspection: Inspection,
    out: Path,
    *,
    converters: Sequence[Converter],
    tool: str,
    to: str | None = None,
    options: Options = DEFAULT,
) -> Conversion:
    """Convert what can be, copy the rest.

    Args:
        tree: the model's files.
        inspection: what they are.
        out: the folder to make; it may be there when it is empty.
        converters: in order of preference.
        tool: name and version of ours, for the record.
        to: the target format; None for the first of each model, and then what cannot be converted stays as it is.
        options: how.

    Raises:
        InvalidInput: nothing can be converted, or something cannot be kept (code ``not-convertible``).
        IntegrityError: a result is not the same as its source (code ``not-equal``).
        Refused, MissingDependency, BadFormat, CouldNot: as the converters say.
        Conflict: *out* is not empty (code ``destination-not-empty``), or two files would have one name (code
            ``target-exists``).
        StorageError: it cannot be read or written. In every case nothing appears at *out*.
    """
    _check_free(out)
    chosen, kept = _chosen(inspection, converters, to)
    if not chosen:
        raise _nothing(inspection, kept, to)
    steps: list[Step] = []
    with _Staging(out) as stage:
        whole = stage / "whole"
        whole.mkdir()
        for number, (description, converter) in enumerate(chosen):
            mine = stage / str(number)
            mine.mkdir()
            try:
                made = converter.convert(tree, description, mine, options)
            except AssayError as error:
                if to is not None or error.code not in ("not-convertible", "missing-dependency", "weights-only"):
                    raise
                kept.update(dict.fromkeys(description.paths, error.message))
                continue
            steps.append(_step(tree, description, converter, made, mine))
            _merge(mine, whole, made.files)
        if not steps:
            raise _nothing(inspection, kept, to)
        replaced = {path for step in steps for path in step.made.replaced}
        _copy_rest(tree, replaced, whole)
        _publish(whole, out)
    kept = {path: why for path, why in kept.items() if path not in replaced}
    return Conversion(out, tuple(steps), kept, _record(steps, kept, tool))


def safe_form(inspection: Inspection, converters: Sequence[Converter]) -> bool:
    """Whether there is anything that a converter may take."""
    return bool(_chosen(inspection, converters, None)[0])


def _chosen(
    inspection: Inspection, converters: Sequence[Converter], to: str | None
) -> tuple[list[tuple[Description, Converter]], dict[str, str]]:
    """Descriptions with their converters, and the entries that stay with the reason."""
    chosen: list[tuple[Description, Converter]] = []
    kept: dict[str, str] = {}
    for description in inspection.descriptions:
        fitting = [one for one in converters if description.format in one.formats and (to is None or one.target == to)]
        if not fitting:
            continue
        obstacle = fitting[0].obstacle(description)
        if obstacle is None:
            chosen.append((description, fitting[0]))
        else:
            kept.update(dict.fromkeys(description.paths, obstacle))
    return chosen, kept


def _nothing(inspection: Inspection, kept: Mapping[str, str], to: str | None) -> InvalidInput:
    found = ", ".join(dict.fromkeys(found.format for found in inspection.descriptions)) or "nothing known"
    reasons = "; ".join(f"{path}: {why}" for path, why in list(kept.items())[:3])
    target = to or "a safe form"
    return InvalidInput(
        f"nothing here converts to {target}: " + (reasons or f"it holds {found}"),
        code="not-convertible",
        hint="torch pickles become safetensors, scikit-learn pickles skops, .h5 keras, XGBoost models ubj",
    )


def _step(tree: Tree, description: Description, converter: Converter, made: Converted, folder: Path) -> Step:
    return Step(
        source=description.format,
        target=converter.target,
        made=made,
        before={path: _sha256(_pieces(tree.source(path))) for path in made.replaced},
        after={path: _sha256(_read(folder / path)) for path in made.files},
    )


def _record(steps: Sequence[Step], kept: Mapping[str, str], tool: str) -> dict[str, Json]:
    name, _, version = tool.partition(" ")
    return {
        "schema": SCHEMA,
        "tool": {"name": name, "version": version},
        "steps": [step.to_json() for step in steps],
        "kept": [{"path": path, "reason": why} for path, why in sorted(kept.items())],
    }


class _Staging:
    """A hidden folder beside the destination, gone afterwards."""

    def __init__(self, out: Path) -> None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = TemporaryDirectory(prefix=".assay-convert-", dir=out.parent)
        except OSError as error:
            raise StorageError.of(error, f"cannot write beside {out}") from error

    def __enter__(self) -> Path:
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _check_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise Conflict(
            f"destination {out} is there already and is not an empty folder",
            code="destination-not-empty",
            hint="name a new folder",
        )


def _merge(folder: Path, whole: Path, files: Sequence[str]) -> None:
    for path in files:
        target = whole / path
        if target.exists():
            raise _taken(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / path).rename(target)


def _copy_rest(tree: Tree, replaced: set[str], whole: Path) -> None:
    for path in tree.paths:
        if path in replaced:
            continue
        target = whole / path
        if target.exists():
            raise _taken(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as handle:
                for piece in _pieces(tree.source(path)):
                    handle.write(piece)
        except OSError as error:
            raise StorageError.of(error, f"cannot write {path}") from error


def _publish(whole: Path, out: Path) -> None:
    try:
        if out.is_dir():
            out.rmdir()
        whole.chmod(0o755)
        whole.rename(out)
    except OSError as error:
        raise StorageError.of(error, f"cannot make {out}") from error


def _taken(path: str) -> Conflict:
    return Conflict(
        f"{path} is there already, and a conversion would write a file of that name",
        code="target-exists",
        hint="the model may have its safe form already: leave one of the two out with .assayignore",
    )


def _pieces(source: Source) -> Iterator[bytes]:
    for start in range(0, source.size, _PIECE):
        yield source.read(start, min(_PIECE, source.size - start))


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while piece := handle.read(_PIECE):
            yield piece


def _sha256(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
