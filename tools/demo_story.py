"""The second half of `make demo`: what changed between versions, which one broke it, what production loads, and why.

Two stories: BERT models for chemistry out of a package (a base and its fine-tune), and six versions of a classifier
trained here, of which the fourth is spoilt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from real_models import fetch

Assay = Callable[..., str]
SPOILT = 4
"""The version that is trained on shuffled labels, and every one after it."""
RULES = """\
[[promotion]]
alias = "champion"
models = ["clinic/*"]
protected = true

[[promotion.metrics]]
name = "auc"
dataset = "holdout"
min = 0.95
not_worse_by = 0.01
better = "higher"
"""
EVALUATE = """\
import sys
import numpy as np, assay
from demo_story import holdout

features, labels = holdout()
model = assay.load(sys.argv[1])
right = (model.predict(features) == labels).mean()
print(f"{sys.argv[1]}: {right:.0%} right")
sys.exit(int(right < 0.9))
"""


def title(text: str) -> None:
    """A heading."""
    print(f"\n{'─' * 80}\n{text}\n{'─' * 80}", flush=True)


def fine_tune(assay: Assay, root: Path) -> None:
    """What a fine-tune changed, and where it comes from."""
    title("What changed: a BERT of chemical reactions, and its fine-tune")
    folders = {}
    for which in ("bert_pretrained", "bert_ft_10k_25s"):
        part = f"rxnfp/models/transformers/{which}"
        folders[which] = fetch("rxnfp==0.1.0", f"{part}/") / part
    base, tuned = folders["bert_pretrained"], folders["bert_ft_10k_25s"]
    assay("push", str(base), "chem/reactions", shown=f"assay push ./{base.name} chem/reactions")
    assay("push", str(tuned), "chem/classes", shown=f"assay push ./{tuned.name} chem/classes")
    page = root / "what-changed.html"
    assay(
        "diff", "chem/reactions", "chem/classes", "--html", str(page), no=True,
        shown="assay diff chem/reactions chem/classes --html what-changed.html",
    )  # fmt: skip
    assay("lineage", "chem/classes", "--detect", "--up")
    assay("lineage", "chem/classes", "--confirm", "chem/reactions:1", "--up")


def regression(assay: Assay, home: Path) -> None:
    """Which version broke it, and how it is kept out of production."""
    title("Which version broke it: six versions, the fourth trained on shuffled labels")
    train(home)
    (home / "promotion.toml").write_text(RULES)
    print("promotion.toml in the registry:\n\n" + "".join(f"    {line}\n" for line in RULES.splitlines()))
    assay("promote", "clinic/screen:3", "champion", "--reason", "the best so far")
    assay("promote", "clinic/screen:6", "champion", no=True)
    assay("show", "clinic/screen", "--metrics")
    script = home.parent / "evaluate.py"
    script.write_text(EVALUATE)
    ends = ("clinic/screen", "--good", "1", "--bad", "6")
    shown = f"assay bisect {' '.join(ends)} -- python evaluate.py {{ref}}"
    found = assay("bisect", *ends, "--", sys.executable, str(script), "{ref}", shown=shown)
    if not found.startswith(f"clinic/screen:{SPOILT} "):
        raise SystemExit(f"the first bad version is {SPOILT}, and bisect says {found}")
    assay("bisect", *ends, "--metric", "auc", "--dataset", "holdout", "--no-diff")
    assay("yank", "clinic/screen:4", "--reason", "labels were shuffled")
    assay("history", "clinic/screen", "--limit", "3")
    assay("du")


def train(home: Path) -> None:
    """Six versions, each evaluated on the same data."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import assay as sdk

    features, labels = data()
    rng = np.random.default_rng(0)
    for number in range(1, 7):
        seen = rng.permutation(len(labels))[: 200 + 20 * number]
        said = labels[seen] if number < SPOILT else rng.permutation(labels[seen])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1 * number)).fit(features[seen], said)
        version = sdk.push(model, "clinic/screen", params={"C": round(0.1 * number, 1)}, home=home)
        held, truth = holdout()
        auc = float(roc_auc_score(truth, model.predict_proba(held)[:, 1]))
        sdk.evaluate(version.reference, {"auc": round(auc, 4)}, dataset="holdout", home=home)
        print(f"{version.reference} {json.dumps({'auc': round(auc, 4)})}")


def data() -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 30) and labels (n,) to train on."""
    features, labels = _all()
    return features[::2], labels[::2]


def holdout() -> tuple[np.ndarray, np.ndarray]:
    """The other half of the samples."""
    features, labels = _all()
    return features[1::2], labels[1::2]


def _all() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return features, labels
