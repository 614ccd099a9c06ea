"""Moving much takes little memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest
from bucket_builders import BUCKET

SIZE = int(float(os.environ.get("ASSAY_MEMORY_GIB", "0.6")) * (1 << 30))
"""By hand more; either way more than a process may take that keeps it in memory."""


@pytest.mark.root
def test_a_large_model_goes_there_and_back_in_bounded_memory(bucket_server: dict[str, str], tmp_path: Path) -> None:
    block = random.Random(1).randbytes(1 << 20)
    with (tmp_path / "model.bin").open("wb") as out:
        for number in range(SIZE >> 20):
            out.write(number.to_bytes(8, "little") + block[8:])
    url = f"s3://{BUCKET}/{token_hex(8)}"
    script = Path(__file__).with_name("moving_much.py")

    done = subprocess.run(
        [sys.executable, script, url, tmp_path / "model.bin", tmp_path / "cache"],
        env={**os.environ, **bucket_server},
        capture_output=True,
        text=True,
        timeout=280,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["peak_mib"] < 400
