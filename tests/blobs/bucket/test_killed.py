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
from rounds import kills

from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.store import BucketStore
from assay.spec.digest import Digest
from assay.streams.copying import digest_source

pytestmark = pytest.mark.root
ENOUGH = kills(8)
"""Senders that are killed while they hold what they send."""


def start(url: str, folder: Path, server: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start to send, in a process of its own that is ready when this returns."""
    script, env = Path(__file__).with_name("sending.py"), {**os.environ, **server}
    sender = subprocess.Popen([sys.executable, script, url, folder], env=env, stdout=subprocess.PIPE)
    assert sender.stdout is not None
    assert sender.stdout.readline() == b"ready\n"
    return sender


def test_what_is_visible_after_senders_were_killed_is_whole_and_the_next_one_sends_the_rest(
    bucket_server: dict[str, str], tmp_path: Path
) -> None:
    rng, files = random.Random(20261128), tmp_path / "files"
    files.mkdir()
    sizes = [rng.randrange(1000, 300_000) for _ in range(4)] + [rng.randrange(6 << 20, 14 << 20) for _ in range(4)]
    expected = set()
    for number, size in enumerate(sizes):
        data = rng.randbytes(size)
        (files / str(number)).write_bytes(data)
        expected.add(Digest.of(data))
    with start(f"s3://{BUCKET}/{token_hex(8)}", files, bucket_server):
        begun = time.monotonic()
    longest = time.monotonic() - begun

    interrupted = 0
    for _ in range(20 * ENOUGH):
        url = f"s3://{BUCKET}/{token_hex(8)}"
        store = BucketStore(open_bucket(url, options=QUICK, environ=bucket_server))
        with start(url, files, bucket_server) as sender:
            time.sleep(rng.uniform(0, longest))
            if sender.poll() is not None:  # done before it was killed: the others are killed earlier
                longest *= 0.8
            sender.kill()
        found = list(store.digests())
        assert set(found) <= expected
        assert all(digest_source(store.open(digest)) == digest for digest in found)
        held = any(store.objects.list("holds/"))
        interrupted += held
        with store.sweep() as sweep:  # the hold of the killed one still counts
            assert any(sweep.idle(digest) for digest in found) is (not held and bool(found))
        if interrupted == ENOUGH:
            break
        store.objects.delete(*(one.key for one in store.objects.list("")))  # the server keeps it in memory
    assert interrupted == ENOUGH
    store.add_files(sorted(files.iterdir()))
    assert set(store.digests()) == expected
