"""Processes that are killed while they send to a bucket."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import pytest
from bucket_builders import BUCKET, QUICK

from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.store import BucketStore
from assay.spec.digest import Digest
from assay.streams.copying import digest_source

pytestmark = pytest.mark.root
KILLS = 25


def test_what_is_visible_after_senders_were_killed_is_whole_and_the_next_one_sends_the_rest(
    bucket_server: dict[str, str], tmp_path: Path
) -> None:
    rng = random.Random(20261128)
    (tmp_path / "files").mkdir()
    sizes = [rng.randrange(1000, 300_000) for _ in range(4)] + [rng.randrange(6 << 20, 14 << 20) for _ in range(4)]
    expected = set()
    for number, size in enumerate(sizes):
        data = rng.randbytes(size)
        (tmp_path / "files" / str(number)).write_bytes(data)
        expected.add(Digest.of(data))
    script, env = Path(__file__).with_name("sending.py"), {**os.environ, **bucket_server}

    interrupted = 0
    for _ in range(KILLS):
        url = f"s3://{BUCKET}/{token_hex(8)}"
        store = BucketStore(open_bucket(url, options=QUICK, environ=bucket_server))
        with subprocess.Popen(
            [sys.executable, script, url, tmp_path / "files"], env=env, stdout=subprocess.PIPE
        ) as sender:
            assert sender.stdout is not None
            sender.stdout.readline()
            time.sleep(rng.uniform(0, 0.8))
            sender.kill()
        found = list(store.digests())
        assert set(found) <= expected
        assert all(digest_source(store.open(digest)) == digest for digest in found)
        held = any(store.objects.list("holds/"))
        interrupted += held
        with store.sweep() as sweep:  # the hold of the killed one still counts
            assert any(sweep.idle(digest) for digest in found) is (not held and bool(found))
    assert interrupted >= KILLS // 3
    store.add_files(sorted((tmp_path / "files").iterdir()))
    assert set(store.digests()) == expected
