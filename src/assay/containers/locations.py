"""Locations that a model file gives for its side files: may they be followed?

Only what stays below the model's own folder may be; everything else is for the caller to report.
"""

from __future__ import annotations


def escaping(location: str) -> str | None:
    """Why a side file's location may not be followed, or None when it stays below the model's folder.

    >>> escaping("weights/part-1.bin") is None
    True
    >>> escaping("../../etc/passwd")
    "leaves the model's folder"
    """
    if not location:
        return "is empty"
    if location.startswith("*/"):
        return "is a memory address"
    if any(ord(letter) < 32 for letter in location):
        return "holds a control character"
    if "\\" in location:
        return "holds a backslash"
    if location.startswith("/") or location[1:2] == ":":
        return "is absolute"
    if "://" in location or location.lower().startswith("file:"):
        return "is a URI"
    if ".." in location.split("/"):
        return "leaves the model's folder"
    return None
