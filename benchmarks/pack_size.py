"""How small packs are: a base and four real fine-tunes, other real pairs, and models that have nothing in common.

    python benchmarks/pack_size.py [--folder DIR] [--dtypes fp32,bf16,fp16]

Against Xet, restic and borg on the same files in the same run; who is missing is said. The family is trained by
``fine_tunes.py`` when it is not there yet, the pairs come out of packages. Sizes do not depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from fine_tunes import DTYPES, family
from pack_peers import measure, missing
from real_models import Unavailable, fetch

TARGETS = {"fp32": (34.0, 33.5), "bf16": (19.4, 18.7), "fp16": (28.3, 27.2)}
"""Per cent of the family's raw bytes, at the default and the smallest effort."""
MOST = {"xet": 0.6, "restic": 0.55, "borg": 0.55}
"""What a pack may be of what a peer keeps."""

RXNFP = "rxnfp/models/transformers"
CHGNET = "chgnet/pretrained"
PAIRS = {
    "rxnfp, BERT and its fine-tune": (
        ("rxnfp==0.1.0", f"{RXNFP}/bert_pretrained/pytorch_model.bin"),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft_10k_25s/pytorch_model.bin"),
    ),
    "rxnfp, two fine-tunes": (
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft_10k_25s/pytorch_model.bin"),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft/pytorch_model.bin"),
    ),
    "chgnet, transferred": (
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
        ("chgnet==0.4.2", f"{CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar"),
    ),
    "silero, retrained (TorchScript)": (
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.jit"),
        ("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit"),
    ),
    "silero, retrained (ONNX)": (
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx"),
        ("silero-vad==6.0.0", "silero_vad/data/silero_vad.onnx"),
    ),
}


def kept(name: str, files: Sequence[Path], folder: Path) -> int:
    """Bytes that one of the peers keeps of some files."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return int(measure(name, "put", Path(place), files)["stored"])


def verdict(value: float, most: float) -> str:
    """Whether a figure meets its target."""
    return f"target {most:g}: {'met' if value <= most else 'MISSED'}"


def of_family(dtype: str, folder: Path) -> None:
    """The base and its fine-tunes."""
    files = family(dtype)
    raw = sum(file.stat().st_size for file in files)
    print(f"\n{dtype}: base, full, nowd, frozen, lora; {raw / 1e6:.1f} MB")
    default, smallest = (kept(name, files, folder) for name in ("assay", "assay smallest"))
    for name, size, most in zip(("default", "smallest"), (default, smallest), TARGETS[dtype], strict=True):
        print(f"  assay {name:9} {100 * size / raw:6.2f} %   {verdict(100 * size / raw, most)}")
    for name, most in MOST.items():
        if missing(name):
            print(f"  {missing(name)}")
            continue
        size = kept(name, files, folder)
        ratio = default / size
        print(f"  {name:15} {100 * size / raw:6.2f} %   assay keeps {ratio:.3f} of it, {verdict(ratio, most)}")


def of_pairs(folder: Path) -> None:
    """Other real pairs: together, and each alone."""
    print("\npairs (% of raw: together, each alone, Xet)")
    for title, pair in PAIRS.items():
        try:
            files = _named(pair, folder)
        except Unavailable as error:
            print(f"  {title}: {error}")
            continue
        raw = sum(file.stat().st_size for file in files)
        together, smallest = (kept(name, files, folder) for name in ("assay", "assay smallest"))
        alone = sum(kept("assay", [file], folder) for file in files)
        xet = "-" if missing("xet") else f"{100 * kept('xet', files, folder) / raw:6.2f}"
        figures = f"{100 * together / raw:6.2f} (smallest {100 * smallest / raw:6.2f}) {100 * alone / raw:6.2f} {xet}"
        print(f"  {title:34} {raw / 1e6:7.1f} MB  {figures}   over raw: {'YES' if together > raw else 'no'}")


def of_strangers(folder: Path) -> None:
    """Models that have nothing in common cost what they cost alone; noise costs a per mille."""
    print("\nnothing in common")
    files = [family("fp32")[0], *_named([pair[0] for pair in PAIRS.values()], folder)]
    files = list({file.resolve(): file for file in files}.values())
    together, alone = kept("assay", files, folder), sum(kept("assay", [file], folder) for file in files)
    print(
        f"  {len(files)} models together {together / 1e6:.2f} MB, each alone {alone / 1e6:.2f}: {together / alone:.4f}"
    )
    noise = folder / "noise.bin"
    noise.write_bytes(os.urandom(64 << 20))
    print(f"  64 MiB of noise: {kept('assay', [noise], folder) / (64 << 20):.5f} of raw, target 1.001")


def _named(pair: Sequence[tuple[str, str]], folder: Path) -> list[Path]:
    """Files of packages under names of their own: both of a pair may be called the same."""
    found = []
    for number, (package, path) in enumerate(pair):
        copy = folder / f"{number}-{Path(path).name}"
        shutil.copyfile(fetch(package, path) / path, copy)
        found.append(copy)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for dtype in filter(None, options.dtypes.split(",")):
            of_family(dtype, Path(name))
        of_pairs(Path(name))
        of_strangers(Path(name))


if __name__ == "__main__":
    main()
