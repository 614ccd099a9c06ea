"""One small prediction per demo model, so that a person sees that what came back works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000


def tone(frequency: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """A sine with a little of its overtones."""
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * frequency * order * time) / order**2 for order in (1, 2, 3))
    return (0.5 * wave).astype(np.float32)


def embeddings(model: Any) -> str:
    """Which of two sentences means the same as a third."""
    first, near, far = model.encode(
        ["The invoice was paid twice.", "We were charged two times.", "Bees dance to show the way."],
        normalize_embeddings=True,
    )
    return f"'paid twice' ~ 'charged two times' {first @ near:.2f}, ~ 'bees dance' {first @ far:.2f}"


def pitch(state: Any) -> str:
    """The pitch of a tone, with CREPE's six convolutions applied straight from the loaded state dict."""
    from torch import from_numpy, no_grad, sigmoid
    from torch.nn import functional

    frame = from_numpy(tone(440.0, 0.064))
    signal = ((frame - frame.mean()) / frame.std()).reshape(1, 1, 1024, 1)
    with no_grad():
        for layer in range(1, 7):
            signal = functional.pad(signal, (0, 0, 254, 254) if layer == 1 else (0, 0, 31, 32))
            weight, bias = state[f"conv{layer}.weight"], state[f"conv{layer}.bias"]
            signal = functional.relu(functional.conv2d(signal, weight, bias, stride=(4 if layer == 1 else 1, 1)))
            norm = [state[f"conv{layer}_BN.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
            signal = functional.max_pool2d(functional.batch_norm(signal, *norm, eps=1e-3), (2, 1))
        flat = signal.permute(0, 2, 1, 3).reshape(1, -1)
        bins = sigmoid(functional.linear(flat, state["classifier.weight"], state["classifier.bias"]))[0]
    best = int(bins.argmax())
    around = np.arange(max(0, best - 4), min(360, best + 5))
    weights = bins.numpy()[around]
    cents = float((weights * (1997.3794 + 20 * around)).sum() / weights.sum())
    return f"a tone of 440 Hz was heard as {10 * 2 ** (cents / 1200):.1f} Hz"


def speech(program: Any) -> str:
    """How likely silence and noise are speech."""
    from torch import from_numpy, no_grad, zeros

    hiss = from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 512)).astype(np.float32))
    with no_grad():
        silence, noise = program(zeros(1, 512), RATE).item(), program(hiss, RATE).item()
    return f"probability of speech in silence {silence:.3f}, in noise {noise:.3f}"


def file_type(session: Any) -> str:
    """What kind of file this very module is."""
    import json

    folder = Path(__file__).parent
    data = Path(__file__).read_bytes().strip()
    tokens = [*data[:1024], *data[-1024:]]
    (scores,) = session.run(None, {session.get_inputs()[0].name: np.array([tokens], dtype=np.int32)})
    labels = json.loads((folder.parent / ".demo/pulled/files-magika/config.min.json").read_text())[
        "target_labels_space"
    ]
    return f"{Path(__file__).name} is {labels[int(scores[0].argmax())]}, with {scores[0].max():.0%}"


def note(model: Any) -> str:
    """Which piano key a tone of 440 Hz is."""
    audio = tone(440.0, 43_844 / 22_050, 22_050)[:43_844].reshape(1, -1, 1)
    heard = model.signatures["serving_default"](input_2=audio)["note"]
    key = int(np.asarray(heard)[0].mean(axis=0).argmax()) + 1
    names = ["A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#"]
    return f"a tone of 440 Hz is piano key {key}: {names[(key - 1) % 12]}{(key + 8) // 12}"
