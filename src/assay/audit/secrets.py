"""Secrets left in files: keys, tokens and passwords that somebody packed by accident.

A leak does no harm to whoever loads the model, so it is a note; a policy may act on ``secret-*``. What is shown of a
secret is its first four characters and its length. Unlike redaction, which would rather hide too much, this reports
only what has the exact shape of a secret and is no example of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from assay.audit.secret_names import entropy, is_secret_name
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.trees import Tree

MAX_FILE = 2 << 20
"""Bytes of one file that are looked through."""
MAX_TOTAL = 16 << 20
"""Bytes of one tree that are looked through."""
_MAX_FINDINGS = 100
_MAX_PER_FILE = 20
_MAX_WORDS = 2_000

_ANY = re.compile(
    rb"AKIA|ASIA|hf_|api_org_|gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt|ft|soat|agent)-|xox[abeoprs]-|xapp-|sk-|[rs]k_live_|"
    rb"AIza|pypi-AgE|npm_|PRIVATE KEY-----|eyJ|://[^\s/]{1,200}@|(?i:secret|passw|token|api_?key|credential)"
)
_WORDS = re.compile(rb"secret|passw|passphrase|token|api_?key|credential|access_?key|auth", re.IGNORECASE)
_ASSIGNED = re.compile(
    rb"(?P<name>[A-Za-z_][\w.-]{2,60}+)[\"']?\s*[=:]\s*(?P<quote>[\"']?)(?P<value>[A-Za-z0-9+/_=~.-]{16,200}+)(?P=quote)"
    rb"(?=[\s,;}\]]|\\n|$)"
)
_NAME_BEFORE = re.compile(rb"[A-Za-z_][\w.-]{0,39}\Z")
_EXAMPLE = re.compile(
    r"example|sample|dummy|placeholder|changeme|your|my[-_]|xxxx|0000|1234567|abcdef|test|fake|none|null|true|false|<|\$|\{|"
    r"\.\.\.|pass(?:word|wd)?$|secret$|token$|user$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What one kind of secret looks like, and the finding about one that was seen."""

    pattern: re.Pattern[bytes]
    hints: tuple[bytes, ...]
    found: Callable[[str, int, str], Finding]
    random: bool


def _shape(rule: str, what: str, hints: str, pattern: bytes, *, random: bool = True) -> _Shape:
    """A kind of secret, one of whose *hints* it holds; of one that is not *random* the shape alone tells it."""

    def found(path: str, at: int, secret: str) -> Finding:
        return Finding(rule, Severity.NOTE, f"{what} was left in the file", path, at, _shown(secret))

    return _Shape(re.compile(pattern), tuple(hint.encode() for hint in hints.split()), found, random)


@cache
def _shapes() -> tuple[_Shape, ...]:
    url = rb"://[^\s:/@\"'<>]{1,80}:([^\s:/@\"'<>]{4,120})@[\w.-]+"
    key = rb"-----BEGIN (?:[A-Z]{2,10} )?PRIVATE KEY-----[\sA-Za-z0-9+/=\\:,.-]{64}"
    github = rb"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{60,255})(?!\w)"
    slack = rb"(?<![\w-])(?:xox[abeoprs]-\d[\w-]{20,200}|xapp-\d-[\w-]{20,200})(?!\w)"
    provider = rb"(?<![\w-])sk-(?:proj-|ant-|svcacct-|or-)?[A-Za-z0-9_-]{32,200}(?![\w-])"
    index = rb"(?<![\w-])(?:pypi-AgE[\w-]{50,300}|npm_[A-Za-z0-9]{36})(?!\w)"
    web = rb"(?<![\w-])eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{20,1000}"
    return (
        _shape(
            "secret-aws-key",
            "an access key of AWS",
            "AKIA ASIA",
            rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
        ),
        _shape(
            "secret-hugging-face-token",
            "a token of Hugging Face",
            "hf_ api_org_",
            rb"(?<!\w)(?:hf|api_org)_[A-Za-z0-9]{34,40}(?!\w)",
        ),
        _shape("secret-github-token", "a token of GitHub", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", github),
        _shape(
            "secret-gitlab-token",
            "a token of GitLab",
            "glpat- gldt- glrt- glptt- glft- glsoat- glagent-",
            rb"(?<!\w)gl(?:pat|dt|rt|ptt|ft|soat|agent)-[\w-]{20,64}(?![\w-])",
        ),
        _shape("secret-slack-token", "a token of Slack", "xox xapp-", slack),
        _shape("secret-api-key", "a key of a model provider", "sk-", provider),
        _shape(
            "secret-payment-key",
            "a key of a payment service",
            "k_live_",
            rb"(?<!\w)[rs]k_live_[A-Za-z0-9]{20,120}(?!\w)",
        ),
        _shape("secret-google-key", "a key of Google", "AIza", rb"(?<![\w-])AIza[\w-]{35}(?![\w-])"),
        _shape("secret-package-token", "a token of a package index", "pypi-AgE npm_", index),
        _shape("secret-private-key", "a private key", "PRIVATE", key, random=False),
        _shape("secret-web-token", "a signed web token", "eyJ", web, random=False),
        _shape("secret-in-url", "a password in an address", "://", url, random=False),
    )


class SecretsAuditor:
    """Looks for secrets in texts."""

    name = "secrets"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:  # noqa: ARG002 - the port
        """Keys, tokens and passwords in the text files of *tree*, shortened."""
        found: list[Finding] = []
        left = MAX_TOTAL
        for path in tree.paths:
            if not tree.size(path) or b"\0" in tree.head(path) or path.endswith(_VOCABULARIES):
                continue
            length = min(tree.size(path), MAX_FILE, left)
            left -= length
            data = tree.open(path).read(0, length)
            if b"\0" not in data[:65536] and _ANY.search(data):
                found += _in_text(data, path)
            if left <= 0 or len(found) >= _MAX_FINDINGS:
                break
        return found[:_MAX_FINDINGS]


_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")


def _in_text(data: bytes, path: str) -> list[Finding]:
    found: dict[int, Finding] = {}
    for shape in _shapes():
        if not any(hint in data for hint in shape.hints):
            continue
        for match in islice(shape.pattern.finditer(data), _MAX_PER_FILE * 2):
            group = match.lastindex or 0
            secret = match[group].decode("latin-1")
            body = re.sub(r"^[A-Za-z]{1,10}[-_]", "", secret)
            if (not shape.random or entropy(body) > 3.0) and not _EXAMPLE.search(secret.removeprefix("-----BEGIN ")):
                found.setdefault(match.start(group), shape.found(path, match.start(group), secret))
    if b"PRIVATE KEY-----" in data and b'"service_account"' in data:
        message = "the key file of a service account of Google Cloud"
        at = data.index(b'"service_account"')
        found[at] = Finding("secret-service-account", Severity.NOTE, message, path, at)
    for at, name, secret in _assigned(data):
        if all(not begin - 200 < at < begin + 200 for begin in found):
            message = f"what looks like the value of {name[:40]} was left in the file"
            found[at] = Finding("secret-assignment", Severity.NOTE, message, path, at, _shown(secret))
    return [found[at] for at in sorted(found)][:_MAX_PER_FILE]


def _assigned(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Settings named like secrets with a value no person would have written."""
    done = 0
    for word in islice(_WORDS.finditer(data), _MAX_WORDS):
        if word.start() < done:
            continue
        before = _NAME_BEFORE.search(data[max(done, word.start() - 40) : word.start()])
        begin = word.start() - (len(before[0]) if before else 0)
        match = _ASSIGNED.match(data, begin, word.end() + 300)
        if match is None:
            continue
        done = match.end()
        name, value = match["name"].decode("latin-1"), match["value"].decode("latin-1")
        if not is_secret_name(name) or _EXAMPLE.search(value):
            continue
        kinds = sum(any(test(letter) for letter in value) for test in (str.isdigit, str.islower, str.isupper))
        hexadecimal = bool(re.fullmatch(r"[0-9a-f]{32,128}", value))
        mixed = kinds == 3 and sum(map(str.isdigit, value)) >= 3 and len(value) >= 20
        if (mixed and entropy(value) > 3.7) or (hexadecimal and entropy(value) > 3.2):
            yield match.start("value"), name, value


def _shown(secret: str) -> str:
    return f"{secret[:4]}… ({len(secret)} characters)"
