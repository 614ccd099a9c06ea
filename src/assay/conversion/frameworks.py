"""Conversions that need the model's own framework: run in a sandbox, on a copy of the files, and held to a proof.

What comes back from the sandbox is not trusted: it is one plain file, which our own formats then describe, and a report
of bounded size.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname
from tempfile import TemporaryDirectory
from typing import Any

from assay import errors
from assay.errors import AssayError, BadFormat, CouldNot, IntegrityError, StorageError
from assay.formats.registry import all_formats
from assay.ports.converters import Converted, Dropped, Options, Proof
from assay.sandbox.running import python, run
from assay.sandbox.values import Limits, Outcome
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.trees import Tree
from assay.trees.window import FileSource

MAX_REPORT = 1 << 20
LIMITS = Limits(seconds=600, cpu_seconds=1800, memory=16 << 30)
_PIECE = 8 << 20
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow"),
}
_HARMFUL = frozenset({Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ, Severity.INCOMPLETE})


@dataclass(frozen=True, slots=True)
class InSandbox:
    """One conversion by a framework.

    Args:
        formats: where it converts from.
        target: name of the format it converts to, as the person types it.
        result: name of our format that must recognise the result.
        suffix: ending of the file it writes.
        limits: of the sandbox.
    """

    formats: Sequence[str]
    target: str
    result: str
    suffix: str
    limits: Limits = LIMITS

    def obstacle(self, description: Description) -> str | None:
        """What is in the target's form already need not be converted; weights alone are no model for Keras."""
        if description.format == "xgboost" and description.format_version == "ubj":
            return "it is UBJSON already"
        if description.format == "keras-h5" and not (description.architecture or description.components):
            return "it holds weights without the model they belong to"
        return None

    def convert(self, tree: Tree, description: Description, out: Path, options: Options) -> Converted:  # noqa: ARG002 - the port's shape
        """Convert in a sandbox.

        Raises:
            InvalidInput, IntegrityError, Refused, MissingDependency, BadFormat: as the port says.
            CouldNot: the sandboxed process did not end well (code ``conversion-failed``).
        """
        target = _target(description.paths[0], self.suffix)
        with TemporaryDirectory(prefix="assay-convert-") as scratch:
            source, work = Path(scratch) / "source", Path(scratch) / "work"
            work.mkdir()
            _copy_out(tree, description.paths, source)
            made = work / f"result{self.suffix}"
            outcome = run(
                python("assay.conversion.children.main", self.target, str(source), str(made), description.format),
                readable=[source],
                writable=work,
                limits=self.limits,
                environment=_ENVIRONMENT,
            )
            report = _report(work, outcome)
            _take(made, out / target)
        self._check(out, target)
        return Converted(
            files=(target,),
            replaced=description.paths,
            proof=_proof(report),
            isolation=outcome.isolation.to_json(),
            dropped=tuple(Dropped(str(where), str(what)) for where, what in report.get("dropped", ())),
            notes=(*(str(note)[:300] for note in report.get("notes", ())), *_tools(report)),
        )

    def _check(self, out: Path, target: str) -> None:
        """What was made must be what was asked for, as our own format sees it."""
        tree = Tree({target: FileSource(out / target)})
        for form in all_formats():
            if form.name != self.result:
                continue
            for group in form.detect(tree):
                found = form.describe(tree, group)
                bad = next((item for item in found.findings if item.severity in _HARMFUL), None)
                if bad is not None:
                    raise CouldNot(f"the result would not be safe: {bad.message}", code="not-convertible")
                return
        raise BadFormat(f"what was made is not {self.result}")


def _target(path: str, suffix: str) -> str:
    folder, name = dirname(path), basename(path)
    stem = re.sub(r"\.(pkl|pickle|joblib|h5|hdf5|json|model|bin|deprecated|sav|xgb)(\.(gz|xz|bz2|lzma|z))?$", "", name)
    return Tree.sibling(path, f"{stem or name}{suffix}") if folder else f"{stem or name}{suffix}"


def _copy_out(tree: Tree, paths: Sequence[str], folder: Path) -> None:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        source = tree.source(path)
        try:
            with file.open("xb") as handle:
                for start in range(0, source.size, _PIECE):
                    handle.write(source.read(start, _PIECE))
        except OSError as error:
            raise StorageError.of(error, f"cannot copy {path}") from error


def _take(made: Path, target: Path) -> None:
    """Copy the one file that was made; a link or anything else is not taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CouldNot(f"the conversion left no file ({error.strerror})", code="conversion-failed") from error
    with os.fdopen(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CouldNot("the conversion left no plain file", code="conversion-failed")
        try:
            with target.open("xb") as handle:
                while piece := source.read(_PIECE):
                    handle.write(piece)
        except OSError as error:
            raise StorageError.of(error, f"cannot write {target}") from error


def _report(work: Path, outcome: Outcome) -> Mapping[str, Any]:
    """What the sandboxed process says, when it says something that can be understood.

    Raises:
        AssayError: it says that it could not, or says nothing.
    """
    try:
        descriptor = os.open(work / "report.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            body = json.loads(handle.read(MAX_REPORT))
    except (OSError, ValueError, RecursionError):
        body = None
    if not outcome.ok or not isinstance(body, dict):
        last = outcome.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
        said = f": {last[0][:300]}" if last[0] else ""
        raise CouldNot(
            f"the sandboxed conversion ended by {outcome.ended.value} with status {outcome.exit}{said}",
            code="conversion-failed",
        )
    failed = body.get("error")
    if isinstance(failed, dict):
        raise _error(failed)
    return body


def _error(body: Mapping[str, Any]) -> AssayError:
    cls = getattr(errors, str(body.get("class")), CouldNot)
    if not (isinstance(cls, type) and issubclass(cls, AssayError)):
        cls = CouldNot
    hint = body.get("hint")
    return cls(str(body.get("message"))[:600], code=str(body.get("code"))[:60], hint=str(hint)[:300] if hint else None)


def _proof(report: Mapping[str, Any]) -> Proof:
    methods = [str(one) for one in report.get("methods", ()) if one in ("state", "tensors", "outputs")]
    difference, tolerance = float(report.get("max_difference", math.inf)), float(report.get("tolerance", 0.0))
    if not methods or not difference <= tolerance:
        raise IntegrityError(
            f"the result was not proved equal: difference {difference:g}, allowed {tolerance:g}", code="not-equal"
        )
    return Proof(
        "+".join(methods),
        tensors=int(report.get("arrays", 0)),
        outputs=int(report.get("outputs", 0)),
        max_difference=difference,
        tolerance=tolerance,
    )


def _tools(report: Mapping[str, Any]) -> tuple[str, ...]:
    tools = report.get("tools")
    if not isinstance(tools, dict) or not tools:
        return ()
    return ("converted by " + ", ".join(f"{name} {version}"[:60] for name, version in sorted(tools.items())),)
