"""A cache whose users are killed at random moments, several at once, never gives a wrong byte and stays bounded."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

from rounds import kills

from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.kept import BLOCK, Kept
from assay.blobs.cache.store import CachedStore
from assay.blobs.directory import DirectoryStore
from assay.spec.digest import Digest

ROUNDS = kills(30)
BOUND = 24 << 20


def test_killed_processes_leave_a_cache_that_gives_only_right_bytes(tmp_path: Path) -> None:
    far, cache = tmp_path / "far", tmp_path / "cache"
    store, rng = DirectoryStore(far), random.Random(5)
    blobs = {store.add(data): data for data in (rng.randbytes(rng.randrange(100_000, 12 << 20)) for _ in range(8))}
    script = Path(__file__).with_name("filling.py")

    done = subprocess.run(
        [sys.executable, script, far, cache, "20261128", str(ROUNDS)], capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= ROUNDS
    found = [path for path in (cache / "blobs").rglob("*") if path.is_file()]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in found)
    folder, seen = CacheFolder(cache, BOUND), set()
    for path in (cache / "blocks").rglob("*"):
        if path.is_file():
            digest = Digest("sha256", path.parent.name)
            kept = Kept(folder, path.parent.parent.name, digest, len(blobs[digest]))
            number, block = int(path.stem), bytearray(path.stat().st_size - 32)
            start = kept.length(number) - len(block) if path.suffix == ".tail" else 0
            seen.add(path.suffix)
            assert kept.load(number, start, memoryview(block))
            assert block == blobs[digest][number * BLOCK + start :][: len(block)]
    assert "" in seen
    assert seen & {".head", ".tail"}
    after = CachedStore(store, folder, "far")
    for digest, data in blobs.items():
        assert after.open(digest).read(0, len(data)) == data
        assert after.fetch_file(digest).read_bytes() == data
    rest = [path.name for path in (cache / "staging").iterdir() if not path.name.startswith("part-")]
    assert rest == []
