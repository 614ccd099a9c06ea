"""A rehearsal from outside: the environment, the sandbox, and what the process in it reported.

What comes back is not trusted: it is one bounded file of JSON, read as values of an example.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.environment.building import Options, environment_for
from assay.environment.interpreters import Interpreter, ask, find
from assay.environment.requirements import wanted
from assay.errors import CouldNot, InvalidInput
from assay.ports.rehearsal import Model, Needs
from assay.rehearsal import child
from assay.sandbox.running import run
from assay.sandbox.values import End, Limits, Outcome
from assay.spec.example import Output, parse
from assay.spec.rehearsal import GIVEN, Failure, Place, Trial

MAX_REPORT = 64 << 20
MINIMUM = (3, 11)
"""Python that Assay itself needs."""
LIMITS = Limits(seconds=600, cpu_seconds=1800, memory=16 << 30)
_PACKAGE = Path(child.__file__).parent.parent
_BACKENDS = (("tensorflow", "tensorflow"), ("torch", "torch"), ("jax", "jax"))


@dataclass(frozen=True, slots=True)
class CleanEnvironments:
    """Rehearses in environments built from recorded requirements, or in one that was given.

    Args:
        options: how to build.
        python: the interpreter to build with, by version or path; that of the recorded version when None.
        given: an interpreter, or the folder of its environment, to use as it is; then nothing is built.
        limits: what the process may use.
        isolated: whether nothing is run where it cannot be isolated whole.
    """

    options: Options = field(default_factory=Options)
    python: str | None = None
    given: Path | None = None
    limits: Limits = LIMITS
    isolated: bool = True

    def rehearse(self, needs: Needs, model: Model, *, told: Callable[[str], None]) -> Trial:
        """Build or find the environment, load the model there, run its example.

        Raises:
            CouldNot: the environment cannot be built (codes ``no-requirements``, ``requirement-missing``,
                ``requirements-clash``, ``network-unreachable``, ``environment-failed``, ``no-installer``), or nothing
                can be isolated here (code ``not-isolated``).
            NotFound: there is no such interpreter (code ``no-python``).
        """
        with self._place(needs, told) as (interpreter, place), TemporaryDirectory(prefix="assay-rehearsal-") as scratch:
            shown = Path(scratch) / "assay-alone"
            shown.mkdir()
            (shown / "assay").symlink_to(_PACKAGE)
            work = Path(scratch) / "work"
            work.mkdir()
            readable = [*interpreter.folders, shown, _PACKAGE, model.folder, *model.files]
            environment = {**_ENVIRONMENT, "KERAS_BACKEND": _backend(interpreter)}
            self._check_isolation(interpreter, work, readable)
            told("loading the model")
            _write_task(work / "task.json", model, shown)
            outcome = run(
                [*_python(interpreter), child.__file__, str(work / "task.json"), str(work / "report.json")],
                readable=readable,
                writable=work,
                limits=self.limits,
                environment=environment,
                mechanism=None if self.isolated else "none",
            )
            return _trial(place, outcome, _report(work), self.limits)

    @contextmanager
    def _place(self, needs: Needs, told: Callable[[str], None]) -> Iterator[tuple[Interpreter, Place]]:
        """The interpreter to run, and what there is to say of where it lives."""
        if self.given is not None:
            interpreter = _new_enough(ask(self.given))
            yield interpreter, Place(interpreter.version, GIVEN, notes=("given interpreter, not built",))
            return
        needed = wanted(needs.environment, needs.described, needs.modules, what=needs.what)
        python = _new_enough(find(self.python, needed.python))
        with environment_for(needed, python, self.options, told=told) as made:
            place = Place(
                python=python.version,
                source=needed.source,
                builder=made.builder,
                reused=made.reused,
                requirements=needed.requirements,
                own=needed.own,
                seconds=made.seconds,
                notes=(*needed.notes, *_other_python(python, needed.python), *_accelerated(made.installed)),
            )
            site = tuple(made.folder.glob("lib*/python*/site-packages"))
            yield Interpreter(made.python, python.version, (made.folder, *python.folders), python.path, site), place

    def _check_isolation(self, interpreter: Interpreter, work: Path, readable: Sequence[Path]) -> None:
        """Find out what can be enforced before anything foreign runs.

        Raises:
            CouldNot: not everything (code ``not-isolated``).
        """
        if not self.isolated:
            return
        probe = run([*_python(interpreter), "-S", "-c", ""], readable=readable, writable=work)
        if not probe.isolation.complete:
            raise CouldNot(
                f"a rehearsal cannot be isolated here: {', '.join(probe.isolation.missing)}; nothing was run",
                code="not-isolated",
                hint="--isolation none runs it all the same, with the rights you have",
            )


_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false"}


def _python(interpreter: Interpreter) -> list[str]:
    return [str(interpreter.path), "-I", "-B", "-X", "utf8"]


def _backend(interpreter: Interpreter) -> str:
    """The backend that Keras finds in an environment; it would look for TensorFlow whatever there is."""
    names = {str(one.metadata["Name"]).lower() for one in distributions(path=[str(site) for site in interpreter.site])}
    return next(
        (backend for start, backend in _BACKENDS if any(name.startswith(start) for name in names)), "tensorflow"
    )


def _new_enough(interpreter: Interpreter) -> Interpreter:
    if tuple(int(part) for part in interpreter.version.split(".")[:2]) < MINIMUM:
        raise CouldNot(
            f"Assay loads with Python {MINIMUM[0]}.{MINIMUM[1]} or newer, and this is {interpreter.version}",
            code="python-too-old",
            hint="--python names another one, by version or path",
        )
    return interpreter


def _other_python(python: Interpreter, recorded: str | None) -> tuple[str, ...]:
    if recorded is None or recorded == python.version:
        return ()
    return (f"recorded with Python {recorded}, rehearsed with {python.version}",)


def _accelerated(installed: Iterable[str]) -> tuple[str, ...]:
    if not any(name.lower().startswith("nvidia") for name in installed):
        return ()
    return (_IN_VAIN,)


_IN_VAIN = (
    "libraries for accelerators were installed, gigabytes that a rehearsal does not use; an index for processors "
    "(--index-url) or uv spares them"
)


def _write_task(file: Path, model: Model, shown: Path) -> None:
    body = {
        "assay": str(shown),
        "what": model.what,
        "folder": str(model.folder),
        "entries": list(model.entries),
        "permitted": list(model.permitted),
        "example": model.example.to_json() if model.example else None,
    }
    file.write_text(json.dumps(body), "utf-8")


def _report(work: Path) -> Mapping[str, Any] | None:
    try:
        descriptor = os.open(work / "report.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            body = json.loads(handle.read(MAX_REPORT))
    except (OSError, ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _trial(place: Place, outcome: Outcome, report: Mapping[str, Any] | None, limits: Limits) -> Trial:
    seen: Mapping[str, Any] = report or {}
    failure = _failure(seen["failure"]) if isinstance(seen.get("failure"), Mapping) else None
    if not outcome.ok or not seen.get("done"):
        failure = Failure("ended", _end(outcome, limits), during="example" if "load_seconds" in seen else "load")
        seen = {name: value for name, value in seen.items() if name != "outputs"}
    elif failure is not None and failure.during == "start":
        raise CouldNot(
            f"Assay's loaders cannot start in this environment: {failure.message}",
            code="environment-failed",
            hint="the environment that --environment names must hold what Assay itself needs: pip install assay there",
        )
    try:
        outputs = tuple(Output(str(one["call"]), parse(one["value"])) for one in seen.get("outputs", ()))
        network = tuple(str(host)[:200] for host in seen.get("network", ())[:20])
        load, imported = _seconds(seen.get("load_seconds")), _seconds(seen.get("import_seconds"))
    except (InvalidInput, KeyError, TypeError, ValueError, AttributeError):
        outputs, network, load, imported = (), (), None, None
        failure = Failure("ended", "the process reported something that cannot be understood")
    return Trial(place, outcome.isolation.to_json(), load, imported, outcome.peak_memory, outputs, failure, network)


def _failure(body: Mapping[str, Any]) -> Failure:
    kind = "import" if body.get("kind") == "import" else "error"
    said = (str(body.get(key, ""))[:600] for key in ("message", "module", "during"))
    return Failure("loader" if body.get("kind") == "loader" else kind, *said)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _end(outcome: Outcome, limits: Limits) -> str:
    """How the process ended that did not live to tell."""
    if outcome.ended is not End.EXIT:
        much = {
            End.TIME: f"was not done after {limits.seconds:g} s"
            if outcome.seconds >= limits.seconds
            else f"computed for more than {limits.cpu_seconds} s",
            End.MEMORY: f"took more than {limits.memory / (1 << 30):.3g} GiB of memory",
            End.PROCESSES: f"started more than {limits.processes} processes and threads",
            End.OUTPUT: f"wrote more than {2 * limits.output / (1 << 20):.3g} MiB of output",
        }
        return f"it {much[outcome.ended]} and was stopped"
    if outcome.exit > 128:
        try:
            name = signal.Signals(outcome.exit - 128).name
        except ValueError:
            name = str(outcome.exit - 128)
        return f"the process was ended by the signal {name}"
    last = outcome.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
    return f"the process ended with status {outcome.exit}" + (f": {last[0][:300]}" if last[0] else "")
