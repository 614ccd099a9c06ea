"""Names that speak of secrets, and how random a text is: shared by what redacts and by what looks for leaks."""

from __future__ import annotations

import math
import re
from collections import Counter

_GLUED = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|token|apikey|api-?key|accesskey|privatekey|credential|webhook|"
    r"jwt|dsn)s?$"
)
# What makes a word secret even when it is glued to another one (``dbpassword``).
_ALONE = frozenset("key keys auth authorization authorisation bearer cookie session sig signature sas otp pin".split())
# What makes a name secret only when it is its last word (``ssh-key``, not ``key-column``).
_ANYWHERE = frozenset("password passwd pwd passphrase secret secrets apikey credentials credential jwt".split())
_COUNTS = frozenset("max min num n new total count per special pad eos bos unk mask sep cls stop image audio".split())
# Words beside ``token`` in names that speak of a model's tokens.


def is_secret_name(name: str) -> bool:
    """Whether an option or setting is named like a secret.

    >>> is_secret_name("hf-token"), is_secret_name("max-tokens"), is_secret_name("epochs")
    (True, False, False)
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    if not words:
        return False
    if words[-1] in {"token", "tokens"} and set(words[:-1]) & _COUNTS:
        return False
    if words[-1] in _ALONE or set(words) & _ANYWHERE or _GLUED.search("-".join(words[-2:])):
        return True
    return "token" in words and words[-1] not in {"type", "types", "id", "ids", "count", "length", "limit"}


def entropy(text: str) -> float:
    """Bits per character, as far as the characters of *text* alone say."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
