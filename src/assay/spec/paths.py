"""Entry paths: which ones an artifact may hold, so that it can be written out anywhere, safely and completely."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from assay.errors import InvalidInput

_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)
MAX_PATH = 1024
MAX_COMPONENT = 255
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def check_path(path: str, *, hint: str | None = None) -> str:
    """Return *path* when it is a plain relative path.

    Refused: empty, absolute, ``.`` and ``..`` components, empty components, backslashes, drive letters, control
    characters, text-direction overrides, names that Windows reserves, lone surrogates (names that are not UTF-8),
    components over 255 bytes, paths over 1024 bytes. Colons, spaces and any other Unicode are fine.

    Args:
        path: the entry path.
        hint: what the person who can change the name should do.

    Raises:
        InvalidInput: code ``unsafe-path``, with the reason.
    """
    reason = _why_not(path)
    if reason:
        raise InvalidInput(
            f"unsafe entry path {path.encode('utf-8', 'backslashreplace').decode()!r:.200}: {reason}",
            code="unsafe-path",
            hint=hint,
            path=path.encode("utf-8", "backslashreplace").decode(),
        )
    return path


def _why_not(path: str) -> str | None:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if not path or len(encoded) > MAX_PATH:
        return "it is empty" if not path else f"it is longer than {MAX_PATH} bytes"
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it holds a backslash"
    if len(path) > 1 and path[1] == ":" and path[0].isascii() and path[0].isalpha():
        return "it begins with a drive letter"
    if any(unicodedata.category(char) == "Cc" or char in _BIDI for char in path):
        return "it holds a control or text-direction character"
    for component in path.split("/"):
        if component in {"", ".", ".."}:
            return f"it holds the component {component!r}"
        if component.split(".")[0].rstrip(" ").lower() in _RESERVED:
            return f"the name {component!r} is reserved on Windows"
        if len(component.encode()) > MAX_COMPONENT:
            return f"a component is longer than {MAX_COMPONENT} bytes"
    return None


def check_together(paths: Iterable[str]) -> None:
    """Check that entries can lie beside each other on every file system.

    Refused: two entries whose paths are equal, also after Unicode normalisation and case folding, and an entry that is
    at the same time a folder of another one.

    Raises:
        InvalidInput: code ``path-collision``, naming both.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        key = _fold(path)
        if key in seen:
            raise _collision(seen[key], path)
        seen[key] = path
        folder = key
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            folders.setdefault(folder, path)
    for key, path in seen.items():
        if key in folders:
            raise _collision(path, folders[key])


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _collision(first: str, second: str) -> InvalidInput:
    return InvalidInput(
        f"entries {first!r} and {second!r} cannot lie beside each other on every file system "
        "(equal without case or Unicode form, or one is a folder of the other)",
        code="path-collision",
        hint="rename one of them, or leave one out with .assayignore",
    )
