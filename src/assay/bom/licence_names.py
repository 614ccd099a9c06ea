"""What licences are called, and the short phrases their texts are known by.

Phrases are lower case, without punctuation (``++`` is ``plusplus``), and long enough to stand in no other common
licence. Identifiers are those of the SPDX licence list; licences that are not on it are ``LicenseRef-`` names.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """How the text of one licence is known.

    Args:
        name: its identifier.
        phrases: all of them are in it.
        absent: none of them is in it.
    """

    name: str
    phrases: tuple[str, ...]
    absent: tuple[str, ...] = ()

    def matches(self, plain: str) -> bool:
        """Whether normalised text is that of this licence."""
        return all(phrase in plain for phrase in self.phrases) and not any(phrase in plain for phrase in self.absent)


_MIT = "permission is hereby granted free of charge to any person obtaining a copy of this software"
_MIT_KEEP = "permission notice shall be included in all copies"
_ISC = "with or without fee is hereby granted"
_BSD = "redistribution and use in source and binary forms with or without modification are permitted"
_BSD_NAME = "be used to endorse or promote products derived from this software"
_BSD_ADS = "all advertising materials mentioning features or use of this software"


def _creative_commons() -> list[Rule]:
    """Attribution licences, by the titles of their legal codes."""
    words = {
        "BY": "attribution",
        "BY-SA": "attribution sharealike",
        "BY-NC": "attribution noncommercial",
        "BY-NC-SA": "attribution noncommercial sharealike",
        "BY-ND": "attribution noderivatives",
        "BY-NC-ND": "attribution noncommercial noderivatives",
    }
    editions = (("4.0", "4 0 international"), ("3.0", "3 0 unported"))
    return [
        Rule(f"CC-{short}-{version}", (f"{title} {edition}",))
        for short, title in words.items()
        for version, edition in editions
    ]


RULES: tuple[Rule, ...] = (
    Rule("Apache-2.0", ("apache license version 2 0 january 2004", "grant of patent license")),
    Rule("Apache-2.0", ("licensed under the apache license version 2 0",), ("grant of patent license",)),
    Rule("MIT", (_MIT, _MIT_KEEP)),
    Rule("MIT-0", (_MIT,), (_MIT_KEEP,)),
    Rule("ISC", (f"distribute this software for any purpose {_ISC} provided that the above copyright notice",)),
    Rule("0BSD", (f"distribute this software for any purpose {_ISC} the software is provided as is",)),
    Rule("BSD-4-Clause", (_BSD, _BSD_NAME, _BSD_ADS)),
    Rule("BSD-3-Clause", (_BSD, _BSD_NAME), (_BSD_ADS,)),
    Rule("BSD-2-Clause", (_BSD,), (_BSD_NAME, _BSD_ADS, "neither the name of")),
    Rule("MPL-2.0", ("mozilla public license version 2 0", "covered software")),
    Rule("MPL-2.0", ("subject to the terms of the mozilla public license v 2 0",)),
    Rule("PSF-2.0", ("python software foundation license version 2", "python software foundation psf")),
    Rule("GPL-2.0-only", (" gnu general public license version 2 june 1991",)),
    Rule("GPL-3.0-only", (" gnu general public license version 3 29 june 2007",)),
    Rule("LGPL-2.1-only", (" gnu lesser general public license version 2 1 february 1999",)),
    Rule("LGPL-3.0-only", (" gnu lesser general public license version 3 29 june 2007",)),
    Rule("AGPL-3.0-only", (" gnu affero general public license version 3 19 november 2007",)),
    Rule("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    Rule("BSL-1.0", ("boost software license version 1 0",)),
    Rule("Zlib", ("the origin of this software must not be misrepresented",)),
    Rule("EPL-2.0", ("eclipse public license v 2 0",)),
    Rule("CC0-1.0", ("cc0 1 0 universal",)),
    *_creative_commons(),
    Rule("LicenseRef-CreativeML-OpenRAIL-M", ("creativeml open rail m",)),
    Rule("LicenseRef-CreativeML-OpenRAIL-plusplus-M", ("creativeml open rail plusplus m",)),
    Rule("LicenseRef-BigScience-BLOOM-RAIL-1.0", ("bigscience rail license",)),
    Rule("LicenseRef-BigScience-OpenRAIL-M", ("bigscience open rail m",)),
    Rule("LicenseRef-BigCode-OpenRAIL-M", ("bigcode open rail m",)),
    Rule("LicenseRef-Llama-2", ("llama 2 community license agreement",)),
    Rule("LicenseRef-Llama-3", ("meta llama 3 community license agreement",)),
    Rule("LicenseRef-Llama-3.1", ("llama 3 1 community license agreement",)),
    Rule("LicenseRef-Llama-3.2", ("llama 3 2 community license agreement",)),
    Rule("LicenseRef-Llama-3.3", ("llama 3 3 community license agreement",)),
    Rule("LicenseRef-Llama-4", ("llama 4 community license agreement",)),
    Rule("LicenseRef-Gemma", ("gemma terms of use",)),
    Rule("LicenseRef-Qwen", ("tongyi qianwen license agreement",)),
    Rule("LicenseRef-Qwen-research", ("qwen research license agreement",)),
    Rule("LicenseRef-DeepSeek", ("deepseek license agreement",)),
    Rule("LicenseRef-FAIR-noncommercial-research", ("fair noncommercial research license",)),
    Rule("LicenseRef-StabilityAI-community", ("stability ai community license agreement",)),
)

PERMISSIVE = frozenset(
    """Apache-2.0 MIT MIT-0 ISC BSD-2-Clause BSD-3-Clause CC0-1.0 Unlicense BSL-1.0 Zlib CC-BY-4.0 CC-BY-3.0
    CC-BY-SA-4.0 CC-BY-SA-3.0 MPL-2.0""".split()
)
"""Licences whose own text restricts no field of use: a rider beside one changes what it says."""

LISTED = frozenset(
    {rule.name for rule in RULES if not rule.name.startswith("LicenseRef-")}
    | set(
        """AFL-3.0 AGPL-3.0-or-later Artistic-2.0 BSD-3-Clause-Clear C-UDA-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-NC-2.0
        CC-BY-NC-SA-2.0 CC-BY-SA-2.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0 EPL-1.0 EUPL-1.1
        EUPL-1.2 GFDL-1.3-only GPL-2.0-or-later GPL-3.0-or-later LGPL-2.1-or-later LGPL-3.0-or-later LPPL-1.3c MS-PL
        NCSA ODbL-1.0 ODC-By-1.0 OFL-1.1 OSL-3.0 PDDL-1.0 PostgreSQL PSF-2.0 Python-2.0 0BSD WTFPL""".split()
    )
)
"""Identifiers of the SPDX licence list that are used here."""

_SPOKEN = {
    "agpl-3.0": "AGPL-3.0-only", "gpl-2.0": "GPL-2.0-only", "gpl-3.0": "GPL-3.0-only", "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only", "agpl-3.0+": "AGPL-3.0-or-later", "gpl-2.0+": "GPL-2.0-or-later",
    "gpl-3.0+": "GPL-3.0-or-later", "lgpl-3.0+": "LGPL-3.0-or-later", "gplv2": "GPL-2.0-only", "gplv3": "GPL-3.0-only",
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache software license 2.0": "Apache-2.0", "apache2": "Apache-2.0",
    "mit license": "MIT", "the mit license": "MIT", "expat": "MIT", "isc license": "ISC",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause", "new bsd": "BSD-3-Clause", "psfl": "PSF-2.0",
    "bsd 2-clause": "BSD-2-Clause", "cc0": "CC0-1.0",
    "cc by 4.0": "CC-BY-4.0", "cc by-nc 4.0": "CC-BY-NC-4.0", "cc by-sa 4.0": "CC-BY-SA-4.0",
    "cc by-nc-sa 4.0": "CC-BY-NC-SA-4.0", "odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0", "pddl": "PDDL-1.0",
    "c-uda": "C-UDA-1.0", "gfdl": "GFDL-1.3-only", "mozilla public license 2.0": "MPL-2.0",
    "openrail": "LicenseRef-OpenRAIL", "openrail++": "LicenseRef-CreativeML-OpenRAIL-plusplus-M",
    "creativeml-openrail-m": "LicenseRef-CreativeML-OpenRAIL-M",
    "bigscience-openrail-m": "LicenseRef-BigScience-OpenRAIL-M",
    "bigscience-bloom-rail-1.0": "LicenseRef-BigScience-BLOOM-RAIL-1.0",
    "bigcode-openrail-m": "LicenseRef-BigCode-OpenRAIL-M",
    "llama2": "LicenseRef-Llama-2", "llama3": "LicenseRef-Llama-3", "llama3.1": "LicenseRef-Llama-3.1",
    "llama3.2": "LicenseRef-Llama-3.2", "llama3.3": "LicenseRef-Llama-3.3", "llama4": "LicenseRef-Llama-4",
    "gemma": "LicenseRef-Gemma", "deepseek": "LicenseRef-DeepSeek",
    "tongyi-qianwen": "LicenseRef-Qwen", "qwen-research": "LicenseRef-Qwen-research",
    "fair-noncommercial-research-license": "LicenseRef-FAIR-noncommercial-research",
    "stabilityai-ai-community": "LicenseRef-StabilityAI-community",
}  # fmt: skip
_TOKENS = re.compile(r"(\s+(?:and|or)\s+|[()])", re.IGNORECASE)
_BY_LOWER = {name.lower(): name for name in LISTED}
_OPERATORS = re.compile(r"\s+(?:and|or)\s+|[()]", re.IGNORECASE)


def canonical_names(stated: str) -> tuple[str, ...]:
    """The identifiers that a metadata value names; empty when any part of it is not known.

    >>> canonical_names("apache-2.0"), canonical_names("MIT OR Apache-2.0"), canonical_names("see below")
    (('Apache-2.0',), ('MIT', 'Apache-2.0'), ())
    """
    whole = _one(stated)
    if whole:
        return (whole,)
    parts = [part.strip() for part in _OPERATORS.split(stated) if part.strip()]
    names = [_one(part) for part in parts]
    return tuple(dict.fromkeys(name for name in names if name)) if all(names) else ()


def expression(stated: str) -> str | None:
    """A metadata value as an SPDX licence expression; None when any part of it is not known.

    >>> expression("mit or apache-2.0"), expression("mine")
    ('MIT OR Apache-2.0', None)
    """
    if whole := _one(stated):
        return whole
    if not canonical_names(stated):
        return None
    parts = [part.strip() for part in _TOKENS.split(stated) if part.strip()]
    return " ".join(_one(part) or part.upper() for part in parts).replace("( ", "(").replace(" )", ")")


def _one(stated: str) -> str | None:
    text = " ".join(stated.lower().split())
    short = text.removesuffix(" license").removesuffix(" licence")
    return _BY_LOWER.get(text) or _SPOKEN.get(text) or _BY_LOWER.get(short) or _SPOKEN.get(short)


def family(name: str) -> str:
    """A licence without what its text cannot say: whether later versions are allowed, too."""
    return name.removesuffix("-only").removesuffix("-or-later")
