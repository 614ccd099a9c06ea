"""A local folder that is used like a bucket (``file://``): for trying things out, and for tests without a server."""

from __future__ import annotations

from pathlib import Path

from obstore.store import LocalStore

from assay.blobs.bucket.objects import BucketObjects
from assay.errors import StorageError

SCHEME = "file://"


def open_folder(url: str) -> BucketObjects:
    """The objects below ``file:///FOLDER``, which is made when it is not there.

    Raises:
        StorageError: it cannot be made.
    """
    folder = Path(url.removeprefix(SCHEME))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of(error, f"cannot open {url}", path=str(folder)) from error
    return BucketObjects(LocalStore(folder), place=url, ordered=False)
