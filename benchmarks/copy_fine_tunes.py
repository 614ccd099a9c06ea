"""What travels when a fine-tune is copied to a home that has its base: packed segments against the bytes themselves.

    python benchmarks/copy_fine_tunes.py FOLDER [--types fp32 bf16]

FOLDER holds what `fine_tunes.py` made: real fine-tunes, really trained. Each is pushed and packed at one home;
the other one gets the base first and packs it. Prints bytes that travelled against bytes of the version, and the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TUNES = ("full", "nowd", "frozen", "lora")


def assay(home: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", "assay", "--home", str(home), *(str(one) for one in arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--types", nargs="+", default=["fp32", "bf16"])
    options = parser.parse_args()
    for kind in options.types:
        with tempfile.TemporaryDirectory() as scratch:
            here, there = Path(scratch) / "here", Path(scratch) / "there"
            for name in ("base", *TUNES):
                model = Path(scratch) / name
                model.mkdir()
                os.link(options.folder / f"{name}-{kind}.safetensors", model / "model.safetensors")
                assay(here, "push", model, "m" if name == "base" else f"m-{name}")
            assay(here, "pack-store")
            assay(here, "copy", "m", f"home:{there}")
            assay(there, "pack-store")
            for name in TUNES:
                told = json.loads(assay(here, "copy", f"m-{name}", f"home:{there}", "--json"))
                travelled = told["moved"] - told["saved"]
                print(
                    f"{kind} {name:>6}: {travelled / 1e6:7.2f} MB travelled for {told['moved'] / 1e6:7.2f} MB "
                    f"({travelled / told['moved']:6.1%}), {told['seconds']:.2f} s"
                )
            assay(there, "verify", "--all")


if __name__ == "__main__":
    main()
