"""Buckets for tests: in memory and in a folder through the client library, and on the real server."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import obstore
from obstore.store import LocalStore, MemoryStore, S3Store

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.options import Options

SERVICE = Path(__file__).parents[2] / "tools" / "services" / "ceph-s3"
QUICK = Options(piece=5 << 20, tries=4, rest=0.02, stall=timedelta(seconds=5))
BUCKET = "assay-tests"
_started: list[tuple[Path, dict[str, str]]] = []


def bucket_in_memory() -> BucketObjects:
    """An empty bucket that nothing else sees."""
    return BucketObjects(MemoryStore(), options=QUICK)


def bucket_in_folder(folder: Path) -> BucketObjects:
    """A folder, through the client library."""
    return BucketObjects(LocalStore(folder, mkdir=True), place=f"file://{folder}", options=QUICK, ordered=False)


def start_server(folder: Path) -> dict[str, str]:
    """Start the real server with its data below *folder*, unless one runs or is named by AWS_ENDPOINT_URL; its settings."""
    if _started:
        return dict(_started[0][1])
    if "AWS_ENDPOINT_URL" not in os.environ:
        printed = subprocess.run([SERVICE, "start", folder], check=True, capture_output=True, text=True).stdout
        words = printed.replace("export ", "").split()
        settings = dict(word.split("=", 1) for word in words)
        _started.append((folder, settings))
    else:
        settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    make_bucket(BUCKET, settings)
    return settings


def stop_server(folder: Path) -> None:
    """Stop what was started below *folder*."""
    if _started and _started[0][0] == folder:
        subprocess.run([SERVICE, "stop", folder], check=True)
        _started.clear()


def make_bucket(name: str, settings: dict[str, str]) -> None:
    """Make a bucket; the client library cannot, but it can sign the request."""
    store = S3Store(
        name,
        endpoint=settings["AWS_ENDPOINT_URL"],
        access_key_id=settings["AWS_ACCESS_KEY_ID"],
        secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )
    request = urllib.request.Request(obstore.sign(store, "PUT", "", timedelta(minutes=5)), method="PUT")
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it is there
            raise


def fresh_prefix(settings: dict[str, str], options: Options = QUICK) -> BucketObjects:
    """An empty prefix of the test bucket."""
    return open_bucket(f"s3://{BUCKET}/{token_hex(8)}/home", options=options, environ=settings)
