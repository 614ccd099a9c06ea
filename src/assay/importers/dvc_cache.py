"""DVC's caches: where the bytes lie that a repository only names by MD5."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import BadFormat, InvalidInput, NotFound
from assay.importers.local import small_file, without_credentials
from assay.spec.paths import check_path

_FOLDER = ".dir"
_MD5 = re.compile(r"[0-9a-f]{32}(?:\.dir)?", re.ASCII)
_MAX_CONFIG = 1 << 20
_MAX_LISTING = 256 << 20
_OUTSIDE = "remove the link; dvc fetch brings the file"


@dataclass(frozen=True, slots=True)
class Tracked:
    """What DVC tracks under one name.

    Args:
        name: last part of its path.
        md5: of the bytes; with the ending ``.dir`` of a list of files.
        exact: whether the MD5 is that of the bytes as they are.
        inside: the path in the folder that is meant; empty for the whole.
    """

    name: str
    md5: str
    exact: bool
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Cache:
    """Folders in which bytes lie under their MD5.

    Args:
        roots: the cache, then remotes that are folders.
        elsewhere: remotes that are none, for messages.
    """

    roots: Sequence[Path]
    elsewhere: Sequence[str] = ()

    def find(self, tracked: Tracked, name: str) -> Path:
        """The file that holds the bytes.

        Raises:
            NotFound: no cache has it (code ``location-missing``).
            BadFormat: it is no MD5.
        """
        if not _MD5.fullmatch(tracked.md5):
            raise BadFormat(f"{name} has no MD5 but {tracked.md5!r:.60}")
        first, rest = tracked.md5[:2], tracked.md5[2:]
        for root in self.roots:
            # DVC 3 keeps files under files/md5, DVC 1 and 2 at the top.
            for file in (root / "files" / "md5" / first / rest, root / first / rest):
                if file.is_file():
                    # DVC links from the working tree into its cache, never out of the cache.
                    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
                        raise InvalidInput(f"{file} leads out of DVC's cache", code="link-outside", hint=_OUTSIDE)
                    return file
        where = f", nor in a folder that is a remote; {', '.join(self.elsewhere)} is not read" if self.elsewhere else ""
        raise NotFound(
            f"the bytes of {name} are not in DVC's cache{where}: {tracked.md5}",
            code="location-missing",
            hint="dvc fetch --all-tags --all-branches, then import again",
        )

    def members(self, tracked: Tracked) -> dict[str, Tracked]:
        """Entry path to what it is, of a file or a folder.

        Raises:
            NotFound: it is not in the cache, or holds no such file.
            BadFormat: a folder's list is none.
        """
        if not tracked.md5.endswith(_FOLDER):
            return {tracked.name: tracked}
        file = self.find(tracked, tracked.name)
        if file.stat().st_size > _MAX_LISTING:
            raise BadFormat(f"DVC's list of {tracked.name} has more than {_MAX_LISTING:,} bytes")
        try:
            listed = {check_path(str(item["relpath"])): str(item["md5"]) for item in json.loads(file.read_bytes())}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadFormat(f"DVC's list of {tracked.name} cannot be read: {error}") from error
        wanted = tracked.inside
        chosen = {
            path.removeprefix(f"{wanted}/") if path != wanted else Path(path).name: md5
            for path, md5 in listed.items()
            if not wanted or path == wanted or path.startswith(f"{wanted}/")
        }
        if not chosen:
            raise NotFound(f"{tracked.name} holds no {wanted or 'files'}", code="location-missing")
        return {path: Tracked(path, md5, tracked.exact) for path, md5 in chosen.items()}


def open_cache(folder: Path) -> Cache:
    """The caches of a repository, as its configuration names them.

    Raises:
        NotFound: it is no DVC repository (code ``import-source-missing``).
        BadFormat: its configuration cannot be read.
    """
    own = folder / ".dvc"
    if not own.is_dir():
        raise NotFound(
            f"{folder} is no DVC repository: it has no .dvc folder",
            code="import-source-missing",
            hint="name the top of the repository",
        )
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        for name in ("config", "config.local"):
            config.read_string((small_file(own / name, _MAX_CONFIG) or b"").decode("utf-8"))
    except (configparser.Error, ValueError) as error:
        raise BadFormat(f"{own / 'config'} cannot be read: {error}") from error
    roots = [own / (config.get("cache", "dir", fallback="cache"))]
    elsewhere = []
    for section in config.sections():
        url = config.get(section, "url", fallback="")
        if section.strip("'\"").startswith("remote") and url:
            if "://" in url:
                elsewhere.append(without_credentials(url))
            else:
                roots.append(own / url)
    return Cache(tuple(roots), tuple(elsewhere))
