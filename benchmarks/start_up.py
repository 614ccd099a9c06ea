"""How long commands take that have little to do, against an interpreter that does nothing and one with SQLAlchemy.

    python benchmarks/start_up.py [--runs 7] [--against SRC] [--folder DIR]

Whole commands count: the interpreter, what it imports, and a home with one small model. Everything takes turns; medians
are compared. `import sqlalchemy` is the floor of whatever reads a catalog; `--against` names the `src` of another
checkout, whose commands take turns with ours. The command lines of peers stand beside it where they are installed next
to this interpreter; theirs say what they can do, and read no registry.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

COMMANDS = {
    "--version": "--version",
    "--help": "--help",
    "pull --help": "pull --help",
    "complete a command": "",
    "complete a reference": "",
    "ls": "ls",
    "show": "show team/m:1",
    "history": "history team/m",
    "promote": "promote team/m:1 prod",
    "verify": "verify team/m:1",
    "inspect": "inspect team/m:1",
    "pull": "pull team/m:1 pulled",
    "push": "push model team/m",
}
COMPLETING = {"complete a command": ("assay pu", "1"), "complete a reference": ("assay pull te", "2")}
PYTHON = {"python": "pass", "click": "import click", "sqlalchemy": "import sqlalchemy"}
PEERS = ("hf --help", "hf version", "mlflow --version", "mlflow models --help", "dvc --version")


class Program:
    """One checkout's command line, in a home of its own."""

    def __init__(self, folder: Path, source: Path | None) -> None:
        self.folder = folder
        self.environ = {**os.environ, "ASSAY_HOME": str(folder / "home")}
        if source is not None:
            self.environ["PYTHONPATH"] = str(source)
        (folder / "model").mkdir(parents=True)
        save_file({"w": np.arange(1000, dtype=np.float32)}, folder / "model" / "model.safetensors")
        (folder / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}))
        self.seconds("push model team/m")
        self.seconds("promote team/m:1 prod")

    def seconds(self, command: str) -> float:
        """One run of a command by its name in ``COMMANDS``, or as it is typed."""
        more = {}
        if command in COMPLETING:
            words, at = COMPLETING[command]
            more = {"_ASSAY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": at}
        arguments = COMMANDS.get(command, command).split()
        shutil.rmtree(self.folder / "pulled", ignore_errors=True)
        return timed([sys.executable, "-m", "assay", *arguments], {**self.environ, **more}, self.folder)


def timed(command: list[str], environ: Mapping[str, str], folder: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        programs = {"assay": Program(folder / "ours", None)}
        if given.against is not None:
            programs["before"] = Program(folder / "theirs", given.against.resolve())
        beside = Path(sys.executable).parent
        peers = {peer: peer.split() for peer in PEERS if (beside / peer.split()[0]).exists()}

        found: dict[tuple[str, str], list[float]] = {}
        for run in range(given.runs + 1):  # the first one only warms the caches
            for name, code in PYTHON.items():
                found.setdefault(("python", name), []).append(timed([sys.executable, "-c", code], os.environ, folder))
            for command in COMMANDS:
                for name, program in programs.items():
                    found.setdefault((name, command), []).append(program.seconds(command))
            for peer, (program_name, *arguments) in peers.items():
                spent = timed([str(beside / program_name), *arguments], os.environ, folder)
                found.setdefault(("peer", peer), []).append(spent)
            print(f"run {run} of {given.runs}", file=sys.stderr)

    median = {key: statistics.median(spent[1:]) for key, spent in found.items()}
    nothing, sql = median["python", "python"], median["python", "sqlalchemy"]
    print(f"{'':28} {'ms':>6} {'best':>6}  x python  x import sqlalchemy{'  x before' if len(programs) > 1 else ''}")
    for (who, what), spent in median.items():
        line = f"{who + ' ' + what:28} {spent * 1e3:6.0f} {min(found[who, what][1:]) * 1e3:6.0f}"
        line += f"  {spent / nothing:8.1f}  {spent / sql:19.2f}"
        if who == "assay" and len(programs) > 1:
            line += f"  {spent / median['before', what]:8.2f}"
        print(line)


if __name__ == "__main__":
    main()
