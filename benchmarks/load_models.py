"""Time from a stored model to its first forward, against the loaders that people use, hot and cold.

    python benchmarks/load_models.py [--sizes 1.3 4] [--runs 9] [--folder DIR] [--drop-caches] [--only assay safe_open]

The model is a synthetic fp32 encoder with normal weights, made once in the folder (outside the repository), as
safetensors, as a torch checkpoint and as a version in a home. Each run is a fresh process; imports are not timed; the
time is: load the state dict, assign it to the module, run eight tokens through it. Loaders take turns. Cold: the files'
pages are dropped before the run (the file's own with posix_fadvise; with --drop-caches, as root, the system's).
Private: the peak of anonymous memory above what the process had before it loaded. Peers that cannot be installed are
named and left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {"0.1": (512, 8, 8, 8000), "1.3": (1024, 24, 16, 30522), "4": (1536, 35, 16, 30522)}
"""Name to width, layers, heads and vocabulary."""

PEERS = {
    "fastsafetensors": ["fastsafetensors"],
    "runai": ["runai-model-streamer", "humanize"],
    "tensorizer": ["tensorizer", "redis", "hiredis", "lz4", "libnacl", "boto3", "botocore", "jmespath", "s3transfer"],
}
MODULES = {"fastsafetensors": "fastsafetensors", "runai": "runai_model_streamer", "tensorizer": "tensorizer"}
NAME = "bench/encoder"


def encoder(size: str) -> Any:
    """The module, without weights."""
    import torch
    from torch import nn

    width, layers, heads, vocabulary = SIZES[size]

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.Embedding(vocabulary, width)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True, activation="gelu")
                for _ in range(layers)
            )

        def forward(self, tokens: Any) -> Any:
            found = self.embeddings(tokens)
            for layer in self.layers:
                found = layer(found)
            return found

    for name in ("normal_", "uniform_", "xavier_uniform_", "kaiming_uniform_", "constant_"):
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)  # what that needs of torch takes seconds to import
    with torch.device("meta"):
        return Encoder().eval()


def make(folder: Path, size: str) -> None:
    """The model's files, and a home with it, when they are not there."""
    import torch
    from safetensors.torch import save_file

    import assay

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{size}.safetensors"
    if not file.exists():
        seed = torch.Generator().manual_seed(1)
        shapes = {name: value.shape for name, value in encoder(size).state_dict().items()}
        state = {name: torch.randn(shape, generator=seed).mul_(0.02) for name, shape in shapes.items()}
        torch.save(state, folder / f"{size}.pt")
        save_file(state, folder / "made")
        (folder / "made").rename(file)
    if not (folder / f"home-{size}").exists():
        assay.push(file, NAME, home=folder / f"home-{size}")


def with_assay(folder: Path, size: str) -> Any:
    import assay

    return assay.load_tensors(NAME, home=folder / f"home-{size}")


def with_load_file(folder: Path, size: str) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / f"{size}.safetensors")


def with_safe_open(folder: Path, size: str) -> Any:
    from safetensors import safe_open

    with safe_open(str(folder / f"{size}.safetensors"), "pt") as found:
        return {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 - not a mapping


def with_torch_mmap(folder: Path, size: str) -> Any:
    import torch

    return torch.load(folder / f"{size}.pt", mmap=True, weights_only=True)


def with_fastsafetensors(folder: Path, size: str) -> Any:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: [str(folder / f"{size}.safetensors")]})
    held = loader.copy_files_to_device()
    KEPT.extend((loader, held))
    return {name: held.get_tensor(name) for name in held.key_to_rank_lidx}


def with_runai(folder: Path, size: str) -> Any:
    from runai_model_streamer import SafetensorsStreamer

    found = {}
    with SafetensorsStreamer() as streamer:
        streamer.stream_file(str(folder / f"{size}.safetensors"))
        for name, tensor in streamer.get_tensors():
            found[name] = tensor.clone()
    return found


def with_tensorizer(folder: Path, size: str) -> Any:
    from tensorizer import TensorDeserializer

    found = TensorDeserializer(str(folder / f"{size}.tensors"), device="cpu")
    KEPT.append(found)
    return {name: found[name] for name in found}


KEPT: list[object] = []
LOADERS: dict[str, Callable[[Path, str], Any]] = {
    "assay": with_assay,
    "load_file": with_load_file,
    "safe_open": with_safe_open,
    "torch_mmap": with_torch_mmap,
    "fastsafetensors": with_fastsafetensors,
    "runai": with_runai,
    "tensorizer": with_tensorizer,
}


def files_of(folder: Path, size: str, loader: str) -> list[Path]:
    """What a loader reads."""
    if loader == "assay":
        return [file for file in (folder / f"home-{size}" / "blobs").rglob("*") if file.is_file()]
    return [
        folder
        / f"{size}{'.pt' if loader == 'torch_mmap' else '.tensors' if loader == 'tensorizer' else '.safetensors'}"
    ]


def work(loader: str, folder: Path, size: str) -> None:
    """One run, in a process of its own."""
    import torch

    import assay

    sys.path.append(str(folder / "peers"))
    torch.set_grad_enabled(False)
    model, tokens = encoder(size), torch.arange(8)[None]
    if loader == "assay":
        # Imports: of the library behind the catalog, and of what finds plugins.
        _ = assay.load_tensors
        assay.versions(NAME, home=folder / f"home-{size}")
        importlib.import_module("assay.formats.registry").all_formats()
    elif loader in MODULES:
        importlib.import_module(MODULES[loader])
    else:
        importlib.import_module("safetensors.torch")
    before, over = anonymous(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    begun = time.perf_counter()
    state = LOADERS[loader](folder, size)
    loaded = time.perf_counter()
    model.load_state_dict(state, assign=True)
    model(tokens)
    done = time.perf_counter()
    peak[0] = max(peak[0], anonymous())
    over.set()
    watching.join()
    print(json.dumps({"load": loaded - begun, "forward": done - begun, "private": peak[0] - before}))


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def drop(files: list[Path], *, everything: bool) -> None:
    """Take files out of the page cache."""
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    if everything:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def warm(files: list[Path]) -> None:
    """Bring files into the page cache."""
    buffer = bytearray(4 << 20)
    for file in files:
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass


def available(folder: Path, size: str, wanted: list[str]) -> list[str]:
    """The loaders that work here; the others are named."""
    found = []
    sys.path.append(str(folder / "peers"))
    for name in wanted:
        if name in PEERS:
            try:
                importlib.import_module(MODULES[name])
            except ImportError:
                command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
                subprocess.run([*command, str(folder / "peers"), *PEERS[name]], check=False, capture_output=True)
                importlib.invalidate_caches()
            try:
                importlib.import_module(MODULES[name])
            except (ImportError, OSError) as error:
                print(f"{name} is left out: {str(error).splitlines()[0][:150]}", flush=True)
                continue
        if name == "tensorizer" and not (folder / f"{size}.tensors").exists():
            from tensorizer import TensorSerializer

            serializer = TensorSerializer(str(folder / f"{size}.tensors"))
            serializer.write_state_dict(with_load_file(folder, size))
            serializer.close()
        found.append(name)
    return found


def measure(folder: Path, size: str, loaders: list[str], *, cold: bool, runs: int, everything: bool) -> None:
    """One table."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in loaders}
    for turn in range(runs):
        for name in (*loaders[turn % len(loaders) :], *loaders[: turn % len(loaders)]):
            files = files_of(folder, size, name)
            drop(files, everything=everything) if cold else warm(files)
            command = [sys.executable, __file__, "--worker", name, "--sizes", size, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}", flush=True)
                continue
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(run[key] for run in runs_) for key in runs_[0]}
        | {"best": min(run["forward"] for run in runs_)}
        for name, runs_ in found.items()
        if runs_
    }
    others = [one for name, one in medians.items() if name != "assay"]
    print(f"\n{size} GB, {'cold' if cold else 'hot'}, {runs} runs: loaded / first forward (best) s, private MB")
    for name, one in sorted(medians.items(), key=lambda item: item[1]["forward"]):
        print(
            f"  {name:16} {one['load']:.3f} / {one['forward']:.3f} ({one['best']:.3f})  {one['private'] / 1e6:7.1f}",
            flush=True,
        )
    if "assay" in medians and others:
        for key in ("forward", "best"):
            ratio = medians["assay"][key] / min(one[key] for one in others)
            print(f"  assay against the fastest of the others, {'median' if key == 'forward' else key}: {ratio:.2f}")


def main() -> None:
    """Make the models, measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["1.3", "4"])
    options.add_argument("--runs", type=int, default=9)
    options.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "assay-bench")
    options.add_argument("--drop-caches", action="store_true")
    options.add_argument("--only", nargs="+", choices=list(LOADERS), default=list(LOADERS))
    options.add_argument("--states", nargs="+", choices=["hot", "cold"], default=["hot", "cold"])
    options.add_argument("--worker", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        work(given.worker, given.folder, given.sizes[0])
        return
    for size in given.sizes:
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import load_models as m; from pathlib import Path; m.make(Path({str(given.folder)!r}), {size!r})",
            ],
            cwd=Path(__file__).parent,
            check=True,
        )  # a process of its own: its memory goes with it
        loaders = available(given.folder, size, given.only)
        for state in given.states:
            measure(given.folder, size, loaders, cold=state == "cold", runs=given.runs, everything=given.drop_caches)


if __name__ == "__main__":
    main()
