"""Pushes, packing, collecting, unpacking and verifying side by side, killed at random moments; then everything is read.

    python tests/faults/packing_killed.py [--rounds 300] [--seed 1] [--workers 3] [--home DIR]

A round starts a few processes on one home, each doing one thing, and kills most of them with SIGKILL after a moment that
the seed decides. After each round ``verify --all`` finds nothing wrong, and every version whose push was reported, and
that nobody asked to remove, has its bytes. Exit status 1: something was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np

from assay.cli.main import invoke
from assay.errors import AssayError
from assay.formats.registry import all_formats
from assay.service.registry import Registry
from assay.settings import Settings
from assay.wiring.places import open_registry

SIZES = (3_000, 30_000, 300_000)
"""Floats of a model: less than a block, and more than one."""
LONGEST = 1.5
"""Seconds after which a process may be killed."""
KINDS = (
    *["push"] * 3,
    *["push --packed", "smallest", "unpack", "verify"],
    *["pack-store", "gc", "purge"] * 2,
    *["pack-store", "remove"],
)
"""What is done, each as likely as another; ``gc`` compacts what is worth it, ``purge`` all that can be."""


class Run:
    """One home, and what is known to be in it."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.chance, self.work = home, random.Random(seed), home.parent
        self.raw: dict[str, np.ndarray] = {}
        self.expected: dict[str, str] = {}
        """Name to the sha256 of its one version's weights: what was reported as pushed."""
        self.unsure: set[str] = set()
        """Names that somebody was asked to remove, or whose push did not report."""
        self.done: Counter[str] = Counter()
        self.pushed = 0

    def action(self, number: int) -> tuple[str, list[str]]:
        """Something to do: what it is, and the command; a push carries the new name as its kind's second word."""
        kind = self.chance.choice(KINDS)
        if kind.startswith("push") or not self.expected:
            name = f"m{self.pushed}"
            self.pushed += 1
            folder = self.write(name)
            packed = ["--packed"] if kind.endswith("packed") else []
            return f"push {name}", ["push", str(folder), name, *packed]
        if kind in {"remove", "purge"}:
            name = self.chance.choice(sorted(self.expected))
            del self.expected[name]
            self.unsure.add(name)
            return kind, [kind, f"{name}:1", "--reason", "old", "--yes"]
        name = self.chance.choice(sorted(self.expected))
        commands = {
            "pack-store": ["pack-store"],
            "smallest": ["pack-store", "--smallest"],
            "gc": ["gc", "--yes", "--grace", "0"],
            "unpack": ["unpack", name],
            "verify": ["verify", "--all"],
        }
        return kind, commands[kind]

    def write(self, name: str) -> Path:
        """A new model: unrelated to others, a tune of one, or one with the very same weights and another text."""
        known = sorted(self.raw)
        how = self.chance.random()
        source = np.random.default_rng(self.chance.randrange(1 << 30))
        if not known or how < 0.3:
            raw = source.normal(0, 0.05, self.chance.choice(SIZES)).astype("<f4")
        elif how < 0.85:
            base = self.raw[self.chance.choice(known)]
            raw = base + source.normal(0, 1e-6, len(base)).astype("<f4")
        else:
            raw = self.raw[self.chance.choice(known)]
        self.raw[name] = raw
        folder = self.work / "models" / name
        folder.mkdir(parents=True)
        np.save(folder / "weights.npy", raw)
        (folder / "words.txt").write_text("\n".join(f"{name} {at}" for at in range(self.chance.randrange(10, 2000))))
        return folder

    def round(self, workers: int) -> None:
        """A few processes side by side, most of them killed; then everything is looked at."""
        running: dict[int, tuple[str, float]] = {}
        for number in range(workers):
            kind, command = self.action(number)
            killed = self.chance.random() < 0.75
            after = self.chance.random() * LONGEST if killed else 60.0
            running[self.start(command)] = (kind, time.monotonic() + after)
        while running:
            for pid, (kind, until) in list(running.items()):
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                gone, status = os.waitpid(pid, os.WNOHANG)
                if gone:
                    del running[pid]
                    self.note(kind, status)
            time.sleep(0.002)

    def start(self, command: list[str]) -> int:
        """Do it in a process of its own."""
        pid = os.fork()
        if pid == 0:
            sink = os.open(self.work / f"out-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            status = 70
            try:
                status = invoke(["--home", str(self.home), *command])
            finally:
                os._exit(status)
        return pid

    def note(self, kind: str, status: int) -> None:
        """What became of a process."""
        how = "killed" if os.WIFSIGNALED(status) else "done" if status == 0 else f"status {os.WEXITSTATUS(status)}"
        self.done[f"{kind.split(maxsplit=1)[0]} {how}"] += 1
        if kind.startswith("push "):
            name = kind.split()[1]
            if status == 0:
                self.expected[name] = digest_of(self.work / "models" / name)
            else:
                self.unsure.add(name)

    def check(self) -> list[str]:
        """What is wrong."""
        pid = self.start(["verify", "--all"])
        _, status = os.waitpid(pid, 0)
        wrong = [] if status == 0 else [(self.work / f"out-{pid}").read_text()]
        pid = os.fork()
        if pid == 0:
            lost = self.lost(open_registry(Settings(self.home, "checker")))
            (self.work / "lost").write_text("\n".join(lost))
            os._exit(0)
        os.waitpid(pid, 0)
        return wrong + (self.work / "lost").read_text().splitlines()

    def lost(self, registry: Registry) -> list[str]:
        """Versions whose bytes are not what was pushed."""
        found = []
        for name in [*self.expected, *self.unsure]:
            version = registry.catalog.version(name, 1)
            if version is None or version.gone:
                found += [f"{name} is gone, its push was reported"] if name in self.expected else []
                continue
            try:
                entry = next(one for one in registry.manifest(version).entries() if one.path == "weights.npy")
                source = registry.blobs.open(entry.digest)
                if hashlib.sha256(source.read(0, source.size)).hexdigest() != digest_of(self.work / "models" / name):
                    found.append(f"{name} has other bytes")
            except AssayError as error:
                found.append(f"{name}: {error.message}")
        return found


def digest_of(folder: Path) -> str:
    """The sha256 of a model's weights as they were written."""
    return hashlib.sha256((folder / "weights.npy").read_bytes()).hexdigest()


def tell(*lines: str) -> None:
    """Write to standard output."""
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run rounds; 1 where something was lost."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=3)
    options.add_argument("--fresh", type=int, default=25, help="rounds after which a new home is begun")
    chosen = options.parse_args()
    for module in ("push", "pack_store", "gc", "verify", "remove", "upkeep"):
        import_module(f"assay.cli.{module}")  # children are forked: what is imported here they need not import
    all_formats()
    totals: Counter[str] = Counter()
    started, number = time.monotonic(), 0
    while number < chosen.rounds:
        work = Path(tempfile.mkdtemp(prefix="packing-killed-"))
        run = Run(work / "home", chosen.seed * 1_000_003 + number)
        open_home = run.start(["push", str(run.write("first")), "first"])
        os.waitpid(open_home, 0)
        run.expected["first"] = digest_of(work / "models" / "first")
        for _ in range(min(chosen.fresh, chosen.rounds - number)):
            number += 1
            run.round(chosen.workers)
            wrong = run.check()
            if wrong:
                tell(f"round {number} of seed {chosen.seed}, kept in {work}:", *wrong)
                return 1
        totals.update(run.done)
        shutil.rmtree(work)
    killed = sum(count for what, count in totals.items() if what.endswith("killed"))
    tell(
        f"{number} rounds, {sum(totals.values())} processes, {killed} killed, {time.monotonic() - started:.0f} s",
        "; ".join(f"{what}: {count}" for what, count in sorted(totals.items())),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
