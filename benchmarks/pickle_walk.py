"""How fast the symbolic pickle machine walks, against pickletools.genops in the same run (interleaved, median of 5).

    python benchmarks/pickle_walk.py [FILE ...]

Without files: one line for each mix of values and protocol, generated here, and the 5-million-opcode protocol 0 file of
``mhcnuggets==2.4.1`` when the test models' cache or the package index has it.
"""

from __future__ import annotations

import pickle
import pickletools
import statistics
import sys
import time
from collections import OrderedDict
from pathlib import Path

from assay.containers.pickle.parse import parse
from assay.trees import BytesWindow

ROUNDS = 5
PROTOCOLS = (0, 2, 4, 5)


class Node:
    """Something with attributes, as estimators are."""

    def __init__(self, index: int) -> None:
        self.name = f"node{index}"
        self.weight = index / 7
        self.children = [index, index + 1]
        self.leaf = False


def generated() -> dict[str, bytes]:
    """Streams of the mixes that real models are made of."""
    import numpy as np

    mixes = {
        "floats": [index / 3 for index in range(200_000)],
        "texts": [f"text {index}" for index in range(120_000)],
        "text -> int": {f"word{index}": index for index in range(100_000)},
        "int -> text": {index: f"word{index}" for index in range(100_000)},
        "text -> NumPy scalar": {f"word{index}": np.int64(index) for index in range(60_000)},
        "lists of mixed numbers": [[float(index) / 3, index, index * 70_000, None, True] for index in range(60_000)],
        "records": [{"name": f"n{index}", "left": index, "right": (index, str(index))} for index in range(40_000)],
        "text -> tuple": OrderedDict((f"word{index}", (index, index / 3)) for index in range(60_000)),
        "objects": [Node(index) for index in range(20_000)],
    }
    return {
        f"{name}, protocol {protocol}": pickle.dumps(value, protocol)
        for name, value in mixes.items()
        for protocol in PROTOCOLS
    }


def real() -> dict[str, bytes]:
    """The protocol 0 file of the package index, where it can be had."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    from real_models import Unavailable, model

    try:
        path = model("mhcnuggets==2.4.1", "mhcnuggets/data/production/mhcI/hp_ic50s_cI.pkl", "528cd60d361b")
    except Unavailable as error:
        print(f"not measured: {error}")
        return {}
    return {"mhcnuggets hp_ic50s_cI.pkl": path.read_bytes()}


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]]
    streams = {file.name: file.read_bytes() for file in files} if files else real() | generated()
    print(f"{'stream':<36}{'MB':>7}{'opcodes':>11}{'pickletools/s':>15}{'assay/s':>12}{'ratio':>7}")
    for name, data in streams.items():
        theirs, ours, opcodes = [], [], 0
        for _ in range(ROUNDS):
            start = time.perf_counter()
            opcodes = sum(1 for _ in pickletools.genops(data))
            theirs.append(time.perf_counter() - start)
            start = time.perf_counter()
            parsed = parse(BytesWindow(data))
            ours.append(time.perf_counter() - start)
            assert parsed.complete, parsed.findings
            assert parsed.opcodes == opcodes
            del parsed
        slow, fast = statistics.median(theirs), statistics.median(ours)
        print(
            f"{name:<36}{len(data) / 1e6:>7.1f}{opcodes:>11,}{opcodes / slow:>15,.0f}"
            f"{opcodes / fast:>12,.0f}{slow / fast:>7.2f}"
        )


if __name__ == "__main__":
    main()
