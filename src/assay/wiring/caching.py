"""The cache of far stores on this machine.

ASSAY_CACHE        its folder; in the user's cache folder when unset
ASSAY_CACHE_SIZE   bytes that it may hold, such as 50GB; 20 GB, or a tenth of the disk when that is less
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from platformdirs import user_cache_path

from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedExchangingStore, CachedPackingStore, CachedStore
from assay.errors import InvalidInput
from assay.ports.blobs import BlobStore
from assay.ports.exchange import SegmentExchange
from assay.ports.packs import Packing
from assay.service.registry import Registry
from assay.settings import expanded

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?) *([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def open_cache(environ: Mapping[str, str] | None = None) -> CacheFolder:
    """The cache that the environment names.

    Args:
        environ: the environment; the process's own when None.

    Raises:
        InvalidInput: ASSAY_CACHE_SIZE is no size (code ``bad-settings``).
    """
    env = os.environ if environ is None else environ
    named = env.get("ASSAY_CACHE")
    root = expanded(named).absolute() if named else user_cache_path("assay", appauthor=False) / "blobs"
    stated = env.get("ASSAY_CACHE_SIZE")
    return CacheFolder(root, parse_size(stated, "ASSAY_CACHE_SIZE") if stated else None)


def cached(far: BlobStore, place: str) -> CachedStore:
    """A far store with this machine's cache in front of it.

    Args:
        far: the store.
        place: what to call it.

    Raises:
        InvalidInput: as ``open_cache``.
    """
    kind: type[CachedStore] = CachedStore
    if isinstance(far, Packing):
        kind = CachedExchangingStore if isinstance(far, SegmentExchange) else CachedPackingStore
    return kind(far, open_cache(), place)


def uncached(registry: Registry) -> Registry:
    """The registry with blobs as they lie far away: who checks them must not be given what was fetched before."""
    blobs = registry.blobs
    return replace(registry, blobs=blobs.past()) if isinstance(blobs, CachedStore) else registry


def parse_size(text: str, what: str) -> int:
    """Bytes, as ``500MB``, ``1.5 GiB``, ``20g`` or a plain number.

    Args:
        text: as written.
        what: it is for.

    Raises:
        InvalidInput: it is none (code ``bad-settings``).
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidInput(f"{what} is no size: {text!r:.40}", code="bad-settings", hint="such as 50GB or 1.5GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])
