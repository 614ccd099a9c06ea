"""The third part of `make demo`: a model is fine-tuned twice, and the registry is made small without becoming slow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from demo_story import title

Assay = Callable[..., str]
STEPS = 6
BATCH = 16


def small(assay: Assay, home: Path) -> None:
    """Two fine-tunes are pushed, everything is packed, and one tensor is read out of a pack."""
    import assay as sdk

    title("Small: two fine-tunes of MiniLM, stored as what changed")
    for number, layers in enumerate((2, 6), 1):
        folder = home.parent / f"tune{number}"
        tune(sdk.load("text/minilm", home=home), folder, layers=layers)
        assay("push", str(folder), "text/tuned", "--base", "text/minilm:1", shown="assay push ./tuned text/tuned")
    before = assay("pull", "text/tuned", str(home.parent / "pulled" / "raw"), show=False)
    assay("pack-store")
    assay("du")
    assay("verify", "--all")
    after = assay("pull", "text/tuned", str(home.parent / "pulled" / "packed"), shown="assay pull text/tuned ./pulled")
    if before.split()[:2] != after.split()[:2]:
        raise SystemExit("what came out of the pack is another artifact")
    with sdk.open("text/tuned", home=home) as artifact:
        started = time.perf_counter()
        rows = artifact.tensors["embeddings.word_embeddings.weight"][2000:2010]
        print(f'\n>>> assay.open("text/tuned").tensors["embeddings.word_embeddings.weight"][2000:2010]  # {rows.shape}')
        print(f"{(time.perf_counter() - started) * 1000:.1f} ms: only the blocks that hold the ten rows were decoded")


def tune(model, folder: Path, *, layers: int) -> None:
    """Train the last *layers* for a few steps on what modules of the standard library say about themselves."""
    import torch

    torch.manual_seed(layers)
    said = re.findall(r"[A-Z][^.\n]{30,120}\.", "\n".join(str(module.__doc__) for module in (re, np, torch.nn.Linear)))
    encoder = model[0].auto_model
    for name, parameter in encoder.named_parameters():
        found = re.search(r"layer\.(\d)\.", name)
        parameter.requires_grad = found is not None and int(found[1]) >= 6 - layers
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5)
    encoder.train()
    tokens = model.tokenizer((said * BATCH)[:BATCH], padding=True, truncation=True, max_length=32, return_tensors="pt")
    for _ in range(STEPS):
        once, twice = (encoder(**tokens).last_hidden_state.mean(1) for _ in range(2))  # dropout makes two views
        once, twice = (torch.nn.functional.normalize(view) for view in (once, twice))
        loss = torch.nn.functional.cross_entropy(once @ twice.T * 20, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save(str(folder))
