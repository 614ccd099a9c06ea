"""How fast the symbolic pickle machine walks, against pickletools.genops in the same run (interleaved, best of N).

    python benchmarks/pickle_walk.py [FILE ...]

Without files: streams generated here for every protocol, and the 5-million-opcode protocol 0 file of
``mhcnuggets==2.4.1`` when the test models' cache or the package index has it.
"""

from __future__ import annotations

import pickle
import pickletools
import sys
import time
from pathlib import Path

from assay.containers.pickle.parse import parse
from assay.trees import BytesWindow

ROUNDS = 3


def generated() -> dict[str, bytes]:
    """Streams like those of real models: a vocabulary, nested lists of mixed numbers, records."""
    import numpy as np

    vocabulary = {f"word{index}": np.int64(index) for index in range(60_000)}
    numbers = [[float(index) / 3, index, index * 70_000, None, True] for index in range(60_000)]
    records = [{"name": f"n{index}", "left": index, "right": (index, str(index))} for index in range(40_000)]
    value = [vocabulary, numbers, records]
    return {f"generated, protocol {protocol}": pickle.dumps(value, protocol) for protocol in range(6)}


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
    print(f"{'stream':<30}{'MB':>7}{'opcodes':>11}{'pickletools/s':>15}{'assay/s':>12}{'ratio':>7}")
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
        slow, fast = min(theirs), min(ours)
        print(
            f"{name:<30}{len(data) / 1e6:>7.1f}{opcodes:>11,}{opcodes / slow:>15,.0f}"
            f"{opcodes / fast:>12,.0f}{slow / fast:>7.1f}"
        )


if __name__ == "__main__":
    main()
