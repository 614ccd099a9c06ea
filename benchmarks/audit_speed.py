"""How long an audit takes: header-only formats of any size, a large checkpoint, many small files, pickles by opcode.

    python benchmarks/audit_speed.py [rounds]

Files are sparse and made here. Times are processor seconds of this process, imports not counted; each line says also
how many bytes were read. The last lines are ratios: large against small file of one format, and opcodes per second of
the whole audit of a pickle against ``pickletools.genops`` over the same bytes in the same run (``pickle_walk.py``
measures the machine alone, mix by mix). Last come the hostile samples of the tests: one that takes over 2 seconds
fails.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from assay.service.audit import audit
from assay.spec.report import Report
from assay.trees import Tree
from assay.trees.window import FileSource
from assay.wiring.auditing import auditing

GB = 1 << 30
MOST = 2.0
"""Seconds of processor time that no hostile sample may take; the exit status says whether one did."""


def safetensors(file: Path, size: int) -> None:
    """One tensor of *size* bytes; its bytes are a hole."""
    header = json.dumps({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.truncate(8 + len(header) + size)


def gguf(file: Path, size: int) -> None:
    """One float32 tensor of *size* bytes; its bytes are a hole."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    pairs = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    tensor = text(b"w") + struct.pack("<IQIQ", 1, size // 4, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + pairs + tensor
    start = -(-len(head) // 32) * 32
    with file.open("wb") as out:
        out.write(head)
        out.truncate(start + size)


def checkpoint(file: Path, size: int) -> None:
    """A state dict of about *size* bytes as torch saves it: 64 float tensors."""
    import torch

    count = size // 4 // 64
    torch.save({f"layer{index}.weight": torch.zeros(count) for index in range(64)}, file)


def timed(action: Callable[[], Report], rounds: int) -> tuple[float, Report]:
    """Median processor seconds, and the report."""
    taken = []
    for _ in range(rounds):
        begin = time.process_time()
        report = action()
        taken.append(time.process_time() - begin)
    return statistics.median(taken), report


def of_file(file: Path) -> tuple[Callable[[], Report], list[Tree]]:
    """An audit that starts from a cold tree; the trees that were read."""
    trees: list[Tree] = []

    def action() -> Report:
        trees.append(Tree({file.name: FileSource(file)}))
        return audit(trees[-1], auditing())

    return action, trees


def large(folder: Path, rounds: int) -> None:
    print(f"{'file':<28}{'size MB':>10}{'read MB':>9}{'CPU ms':>9}  findings above a note")
    kinds: list[tuple[str, Callable[[Path, int], None], int, int]] = [
        ("model.safetensors", safetensors, 1 << 20, 16 * GB),
        ("model.gguf", gguf, 1 << 20, 16 * GB),
        ("checkpoint.pt", checkpoint, 1 << 20, GB),
    ]
    for name, make, few, many in kinds:
        medians = []
        for size in (few, many):
            file = folder / name
            make(file, size)
            action, trees = of_file(file)
            median, report = timed(action, rounds)
            medians.append(median)
            grave = sorted({finding.rule for finding in report.findings if finding.severity != "note"})
            print(
                f"{name:<28}{file.stat().st_size / 1e6:>10,.0f}{trees[-1].budget.used / 1e6:>9.2f}{median * 1e3:>9.1f}"
                f"  {', '.join(grave) or 'none'}"
            )
            file.unlink()
        print(f"{'':<28}{many // few:,} times the bytes take {medians[1] / medians[0]:.1f} times as long")


def small(rounds: int) -> None:
    """Files of a few hundred bytes, one of each format the fuzzing seeds have."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
    from fuzz_seeds import seeds
    from fuzz_targets import files_of

    files = [data for inputs in seeds().values() for data in inputs]
    taken = []
    for data in files:
        median, _ = timed(lambda data=data: audit(Tree.of(files_of(data, "model.bin")), auditing()), rounds)
        taken.append(median * 1e3)
    print(
        f"{len(files)} small files in one process: median {statistics.median(taken):.2f} ms, "
        f"largest {max(taken):.1f} ms of processor time each"
    )


def pickles(rounds: int) -> None:
    kinds: dict[str, object] = {
        "floats": [index / 3 for index in range(200_000)],
        "text -> int": {f"word{index}": index for index in range(100_000)},
        "records": [{"name": f"n{index}", "left": index, "right": (index, str(index))} for index in range(40_000)],
    }
    print(f"{'pickle':<28}{'opcodes':>10}{'pickletools/s':>15}{'audit/s':>12}{'ratio':>7}")
    for name, value in kinds.items():
        for protocol in (0, 2, 4):
            data = pickle.dumps(value, protocol)
            theirs, ours, count = [], [], 0
            for _ in range(rounds):
                begin = time.process_time()
                count = sum(1 for _ in pickletools.genops(io.BytesIO(data)))
                theirs.append(time.process_time() - begin)
                begin = time.process_time()
                audit(Tree.of({"model.pkl": data}), auditing())
                ours.append(time.process_time() - begin)
            slow, fast = statistics.median(theirs), statistics.median(ours)
            print(
                f"{name + f', protocol {protocol}':<28}{count:>10,}{count / slow:>15,.0f}{count / fast:>12,.0f}"
                f"{slow / fast:>7.2f}"
            )


def hostile() -> bool:
    """Every hostile sample of the tests, each alone; whether none took longer than it may."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "builders"))
    from hostile_corpus import samples

    taken = {}
    for sample in samples():
        tree = Tree.of(dict(sample.files))
        begin = time.process_time()
        audit(tree, auditing())
        taken[sample.name] = time.process_time() - begin
    slowest = max(taken, key=taken.__getitem__)
    over = [name for name, seconds in taken.items() if seconds > MOST]
    print(
        f"{len(taken)} hostile samples: slowest {slowest} with {taken[slowest]:.2f} s of processor time, "
        f"{taken[slowest] / MOST:.2f} of the {MOST:g} s it may take; over it: {', '.join(over) or 'none'}"
    )
    return not over


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    audit(Tree.of({"warm.pkl": pickle.dumps([1])}), auditing())
    with tempfile.TemporaryDirectory() as scratch:
        large(Path(scratch), rounds)
    small(rounds)
    pickles(rounds)
    return 0 if hostile() else 1


if __name__ == "__main__":
    sys.exit(main())
