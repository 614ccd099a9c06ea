"""How long it takes, and how much is read, to describe a large ONNX file; beside ``onnx.load`` of the same file.

Two files of over 100 MB, built from real trained weights repeated: a network (its tensors), and a forest (a classical
model's numbers lie in node attributes, one by one). Each is timed in fresh order five times; medians are printed.

    python benchmarks/describe_onnx.py [FOLDER FOR THE FILES]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import numpy as np
import onnx
from onnx import helper, numpy_helper
from real_models import model

from assay.formats.onnx.files import OnnxFormat
from assay.trees import Tree
from assay.trees.window import FileSource

SOURCE = ("rapidocr==3.4.0", "rapidocr/models/ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d")
REPEATS = 5


def build_network(target: Path) -> None:
    """The weights and nodes of a real model twelve times over, under other names."""
    source = onnx.load(model(*SOURCE))
    nodes = []
    for copy in range(12):
        for each in source.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(each)
            node.name = f"{each.name}.{copy}"
            for names in (node.input, node.output):
                renamed = [f"{name}.{copy}" for name in names]
                del names[:]
                names.extend(renamed)
            nodes.append(node)
    graph = helper.make_graph(nodes, "repeated", [], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)]), target)


def build_forest(target: Path) -> None:
    """A forest whose thresholds are real weights: 30,000 trees of 127 nodes."""
    largest = max(
        (
            numpy_helper.to_array(attribute.t).ravel()
            for node in onnx.load(model(*SOURCE)).graph.node
            for attribute in node.attribute
            if attribute.HasField("t")
        ),
        key=np.size,
    )
    count = 30_000 * 127
    identifiers = np.arange(count)
    attributes = {
        "nodes_treeids": (identifiers // 127).tolist(),
        "nodes_nodeids": (identifiers % 127).tolist(),
        "nodes_featureids": (identifiers % 97).tolist(),
        "nodes_truenodeids": (identifiers % 127 * 2 % 127).tolist(),
        "nodes_falsenodeids": (identifiers % 127 * 2 % 126 + 1).tolist(),
        "nodes_values": np.resize(largest, count).astype(np.float32).tolist(),
        "nodes_hitrates": np.resize(largest[::-1], count).astype(np.float32).tolist(),
        "nodes_modes": ["BRANCH_LEQ"] * count,
        "class_weights": np.resize(largest, count // 2).astype(np.float32).tolist(),
        "classlabels_int64s": [0, 1],
    }
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **attributes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(helper.make_graph([node], "forest", [], []), opset_imports=opsets), target)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(file: Path) -> None:
    ours, theirs = [], []
    used = tensors = 0

    def describe() -> None:
        nonlocal used, tensors
        tree = Tree({file.name: FileSource(file)})
        (group,) = OnnxFormat().detect(tree)
        description = OnnxFormat().describe(tree, group)
        assert description.complete, description.findings
        used, tensors = tree.budget.used, len(description.tensors)

    for _ in range(REPEATS):
        ours.append(seconds(describe))
        theirs.append(seconds(lambda: onnx.load(file)))
    size = file.stat().st_size
    mine, load = statistics.median(ours), statistics.median(theirs)
    print(
        f"{file.stem:8} {size / 1e6:6.1f} MB, {tensors:5,} tensors: described in {mine:.3f} s reading "
        f"{used / 1e6:.1f} MB ({used / size:.1%}); onnx.load {load:.3f} s, {load / mine:.1f} times as long"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for name, build in (("network", build_network), ("forest", build_forest)):
            file = Path(folder) / f"{name}.onnx"
            build(file)
            compare(file)
            file.unlink()


if __name__ == "__main__":
    main()
