"""Pushes overlapping artifacts, or collects garbage, beside others that do the same.

python collecting.py push HOME WHO ROUNDS     push, remove, push again; prints what must be there at the end
python collecting.py collect HOME             collect again and again until HOME/stop exists; prints how much

There are as many rounds as are said, and more until the one that collects has freed ENOUGH.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import timedelta
from itertools import cycle
from pathlib import Path

from assay.artifact.collect import collect as files_of
from assay.service import garbage, publish, removing
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry

POOL = 6
"""Different files; every artifact is some of them, so nearly all that is garbage is wanted again soon."""
ENOUGH = 50
"""Files that are freed while others push."""


def write(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number in numbers:
        (folder / f"part-{number}.txt").write_text(f"part {number}\n" * 300)
    return folder


def push(registry: Registry, settings: Settings, folder: Path, name: str) -> str:
    claims = publish.Claims(note="the same note")
    pushed = publish.push(registry, files_of(folder), name, guard=guard_of(settings), claims=claims)
    return pushed.version.reference


def keep_pushing(home: Path, who: str, rounds: int) -> None:
    settings = Settings(home, who)
    registry, source = open_registry(settings, create=True), random.Random(who)
    mine: list[str] = []
    for number in range(50 * rounds):
        if number >= rounds and (home / "enough").exists():
            break
        chosen = sorted(source.sample(range(POOL), source.randint(1, 4)))
        reference = push(registry, settings, write(home.parent / f"{who}-model", chosen), f"team/{who}")
        if reference not in mine:
            mine.append(reference)
        while len(mine) > (0 if number % 3 else 1):
            removing.remove(registry, registry.resolve(Reference.parse(mine.pop(0))), reason="old")
    mine.append(push(registry, settings, write(home.parent / f"{who}-model", list(range(POOL))), f"team/{who}"))
    sys.stdout.write("\n".join(mine))


def keep_collecting(home: Path) -> None:
    registry = open_registry(Settings(home, "collector"), create=True)
    freed = 0
    for grace in cycle((0, 0, 40)):
        if (home / "stop").exists():
            break
        planned = garbage.plan(registry, grace=timedelta(milliseconds=grace))
        time.sleep(0.005)  # the longer between plan and sweep, the more is named meanwhile
        freed += garbage.collect(registry, planned).removed
        if freed > ENOUGH:
            (home / "enough").touch()
    sys.stdout.write(str(freed))


if __name__ == "__main__":
    if sys.argv[1] == "push":
        keep_pushing(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        keep_collecting(Path(sys.argv[2]))
