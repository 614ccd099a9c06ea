"""JSON as a value: the type of any document, and its one canonical byte form.

Canonical form: UTF-8, keys sorted by code point, no white space, non-ASCII characters unescaped, no NaN. Written once
here because manifests and statements are identified by these bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

Json = bool | int | float | str | None | Sequence["Json"] | Mapping[str, "Json"]


def canonical(value: Json) -> bytes:
    r"""The canonical bytes of *value*.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON cannot say.

    >>> canonical({"b": 1, "a": [True, None, "é"]})
    b'{"a":[true,null,"\xc3\xa9"],"b":1}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")
