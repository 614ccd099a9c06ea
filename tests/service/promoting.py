"""Decides on a promotion, says so, waits until everybody has decided, and then carries it out.

python promoting.py HOME WHO NUMBER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from assay.errors import Conflict
from assay.service import promote
from assay.settings import Settings
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry


def main(home: Path, who: str, number: int) -> None:
    settings = Settings(home, who)
    registry = open_registry(settings)
    version = registry.resolve(Reference("m", str(number)))
    planned = promote.plan(registry, version, "champion", guard=guard_of(settings))
    (home / f"planned-{number}").touch()
    while not (home / "start").exists():
        time.sleep(0.001)
    try:
        moved = promote.carry_out(registry, planned)
    except Conflict as error:
        sys.stdout.write(f"{number} {error.code}\n")
        return
    sys.stdout.write(f"{number} {'moved' if moved.moved else 'there already'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
