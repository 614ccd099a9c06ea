"""Who may sign, and who must have: trust roots and required signers, as data and pure rules.

Concept: a signer is a name that we give; keys and authorities are what we recognise it by. A name may have several, so
that a new key can be trusted before the old one is given up. A bundle carries no trusted time, so windows and
revocations are judged by today's date: what a revoked key signed is worth nothing, whenever it says that was.

Not here: cryptography (``assay.signing``), which says whose key a signature was made with.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from assay.errors import InvalidInput
from assay.spec.json import Json
from assay.spec.signature import SignatureCheck, Standing

_PEM = re.compile(r"-----BEGIN (PUBLIC KEY|CERTIFICATE)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_SIGNER = frozenset(
    {"name", "public_key", "certificate", "identity", "issuer", "not_before", "not_after", "revoked", "reason"}
)
_REQUIRE = frozenset({"models", "signers", "at_least"})
_REVOKED = frozenset({"key", "since", "reason"})
_GRAVITY = (Standing.INVALID, Standing.REVOKED, Standing.EXPIRED, Standing.VALID, Standing.UNTRUSTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One key, or one authority, that a signer is recognised by.

    Args:
        name: of the signer.
        pem: a public key, or root certificates; empty when Sigstore's are meant (keyless).
        identity: whom the signing certificate must name; anybody whom the authority certified when empty.
        issuer: keyless: URL of the service that must have confirmed the identity.
        not_before: first day it is trusted.
        not_after: last day it is trusted.
        revoked: from this day nothing it signed counts.
        reason: why it was revoked.
    """

    name: str
    pem: str
    identity: str = ""
    issuer: str = ""
    not_before: date | None = None
    not_after: date | None = None
    revoked: date | None = None
    reason: str = ""

    @property
    def is_authority(self) -> bool:
        """Whether it is certificates rather than a key."""
        return "BEGIN CERTIFICATE" in self.pem

    @property
    def anchors(self) -> tuple[str, ...]:
        """Fingerprints of the key or the certificates: ``sha256:`` and the hash of the DER form; or the issuer."""
        if self.issuer:
            return (self.issuer,)
        return tuple(f"sha256:{hashlib.sha256(_der(found[2])).hexdigest()}" for found in _PEM.finditer(self.pem))

    def to_json(self) -> dict[str, Json]:
        """All that counts, for the digest of a policy."""
        days = {"not_before": self.not_before, "not_after": self.not_after, "revoked": self.revoked}
        return {
            "name": self.name,
            "anchors": list(self.anchors),
            "identity": self.identity,
            "issuer": self.issuer,
            **{what: day.isoformat() for what, day in days.items() if day is not None},
        }


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who must have signed some models.

    Args:
        models: pattern of model names, with ``*`` and ``?``.
        signers: names, any of which count.
        at_least: how many of them.
    """

    models: str
    signers: tuple[str, ...]
    at_least: int = 1


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key that counts for nothing, whoever vouched for it.

    Args:
        key: ``sha256:`` and the hash of the public key's DER form.
        since: from this day.
        reason: why.
    """

    key: str
    since: date
    reason: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Trusted keys, and what must be signed by them."""

    keys: tuple[TrustedKey, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    revocations: tuple[Revocation, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """All that counts, for the digest of a policy."""
        return {
            "keys": [key.to_json() for key in self.keys],
            "requirements": [[one.models, list(one.signers), one.at_least] for one in self.requirements],
            "revocations": [[one.key, one.since.isoformat()] for one in self.revocations],
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the signatures of an artifact are worth.

    Args:
        checks: every signature, with its standing today.
        problems: why it is not enough; empty when it is.
    """

    checks: tuple[SignatureCheck, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all that is required is there, and nothing contradicts the artifact."""
        return not self.problems


NO_TRUST = Trust()
"""Nobody is trusted, and no signature is required."""


def judge_signers(name: str, checks: Sequence[SignatureCheck], trust: Trust, today: date) -> Judgement:
    """Judge an artifact by its signatures.

    A signature by whom we trust that does not match is a problem even beside good ones: somebody altered something.

    Args:
        name: of the model.
        checks: what cryptography says.
        trust: keys and requirements.
        today: the date that counts.
    """
    judged = tuple(_today(check, trust, today) for check in checks)
    problems = [f"a signature is invalid: {check.reason}" for check in judged if check.standing is Standing.INVALID]
    valid = [check for check in judged if check.standing is Standing.VALID]
    for requirement in trust.requirements:
        if not fnmatchcase(name, requirement.models):
            continue
        counting = [check for check in valid if check.signer in requirement.signers]
        count = min(len({check.signer for check in counting}), len({check.key for check in counting}))
        if count < requirement.at_least:
            problems.append(_unmet(name, requirement, {check.signer for check in counting}, judged))
    return Judgement(judged, tuple(problems))


def join(judgements: Sequence[Judgement]) -> Judgement:
    """What several judgements of the same signatures say together: all problems, and the gravest word on each."""
    together = zip(*(judgement.checks for judgement in judgements), strict=True)
    checks = tuple(min(said, key=lambda check: _GRAVITY.index(check.standing)) for said in together)
    problems = dict.fromkeys(problem for judgement in judgements for problem in judgement.problems)
    return Judgement(checks, tuple(problems))


def parse_trust(table: Mapping[str, object]) -> Trust:
    """Read the ``[trust]`` tables of a policy.

    Raises:
        InvalidInput: something in them is not what it must be (code ``bad-policy``).
    """
    unknown = sorted(set(table) - {"signer", "require", "revoked"})
    if unknown:
        _refuse(f"[trust] has the unknown table {unknown[0]!r}, expected signer, require or revoked")
    keys = tuple(_signer(item) for item in _items(table, "signer"))
    anchors = [(anchor, key.identity) for key in keys for anchor in key.anchors]
    twice = next((anchor for anchor in anchors if anchors.count(anchor) > 1), None)
    if twice is not None:
        _refuse(f"[[trust.signer]] the key {twice[0]} is given twice: one key is one signer")
    requirements = tuple(_requirement(item, {key.name for key in keys}) for item in _items(table, "require"))
    return Trust(keys, requirements, tuple(_revocation(item) for item in _items(table, "revoked")))


def _today(check: SignatureCheck, trust: Trust, today: date) -> SignatureCheck:
    """A valid signature as it stands today."""
    if check.standing is not Standing.VALID:
        return check
    for revocation in trust.revocations:
        if revocation.key == check.key and today >= revocation.since:
            return _fallen(check, Standing.REVOKED, f"revoked on {revocation.since}: {revocation.reason}")
    held = [key for key in trust.keys if key.name == check.signer and check.anchor in key.anchors]
    if not held:
        return replace(check, standing=Standing.UNTRUSTED, reason="signed by nobody who is trusted", signer="")
    for key in held:
        if key.revoked is not None and today >= key.revoked:
            return _fallen(check, Standing.REVOKED, f"revoked on {key.revoked}: {key.reason}")
    for key in held:
        if key.not_before is not None and today < key.not_before:
            return _fallen(check, Standing.EXPIRED, f"trusted only from {key.not_before}")
        if key.not_after is not None and today > key.not_after:
            return _fallen(check, Standing.EXPIRED, f"trusted only until {key.not_after}")
    return check


def _fallen(check: SignatureCheck, standing: Standing, why: str) -> SignatureCheck:
    return replace(check, standing=standing, reason=f"the key of {check.signer} is {why}")


def _unmet(name: str, requirement: Requirement, signed: set[str], judged: Sequence[SignatureCheck]) -> str:
    wanted = f"{requirement.at_least} of {', '.join(requirement.signers)}"
    have = f"signed by {', '.join(sorted(signed))}" if signed else "signed by none of them"
    if len(signed) >= requirement.at_least:
        have += ", all with one key"
    others = [check.reason for check in judged if check.standing in {Standing.REVOKED, Standing.EXPIRED}]
    more = f" ({'; '.join(dict.fromkeys(others))})" if others else ""
    return f"{name} must be signed by {wanted}: it is {have}{more}"


def _signer(item: Mapping[str, Any]) -> TrustedKey:
    where = "[[trust.signer]]"
    _check_keys(where, item, _SIGNER)
    name, identity, reason = (_text(where, item, key) for key in ("name", "identity", "reason"))
    key, certificate, issuer = (_text(where, item, kind) for kind in ("public_key", "certificate", "issuer"))
    if not name or sum(map(bool, (key, certificate, issuer))) != 1:
        _refuse(f"{where} needs a name, and one of public_key, certificate or issuer")
    found = [match[1] for match in _PEM.finditer(key or certificate)]
    if not issuer and (set(found) != {"PUBLIC KEY" if key else "CERTIFICATE"} or (key and len(found) != 1)):
        _refuse(f"{where} {name}: expected {'one public key' if key else 'certificates'} as PEM text")
    if identity and key:
        _refuse(f"{where} {name}: identity is what a certificate names; a bare key names nobody")
    if issuer and not identity:
        _refuse(f"{where} {name}: an issuer confirms anybody; say whose identity counts")
    trusted = TrustedKey(
        name=name,
        pem=key or certificate,
        identity=identity,
        issuer=issuer,
        not_before=_day(where, item, "not_before"),
        not_after=_day(where, item, "not_after"),
        revoked=_day(where, item, "revoked"),
        reason=reason,
    )
    if trusted.revoked and not reason:
        _refuse(f"{where} {name}: a revoked key needs a reason")
    return trusted


def _requirement(item: Mapping[str, Any], known: set[str]) -> Requirement:
    where = "[[trust.require]]"
    _check_keys(where, item, _REQUIRE)
    models, signers, at_least = _text(where, item, "models"), item.get("signers"), item.get("at_least", 1)
    if not models or not isinstance(signers, list) or not signers:
        _refuse(f"{where} needs models and signers")
    for signer in signers:
        if signer not in known:
            _refuse(f"{where} {models}: there is no [[trust.signer]] named {signer!r:.60}")
    if not isinstance(at_least, int) or isinstance(at_least, bool) or not 1 <= at_least <= len(set(signers)):
        _refuse(f"{where} {models}: at_least = {at_least!r:.20}, expected 1 to {len(set(signers))}")
    return Requirement(models, tuple(dict.fromkeys(signers)), at_least)


def _revocation(item: Mapping[str, Any]) -> Revocation:
    where = "[[trust.revoked]]"
    _check_keys(where, item, _REVOKED)
    key, reason, since = _text(where, item, "key"), _text(where, item, "reason"), _day(where, item, "since")
    if not _FINGERPRINT.fullmatch(key) or not reason or since is None:
        _refuse(f"{where} needs key (sha256: and 64 hex digits), since and reason")
    return Revocation(key, since, reason)


def _items(table: Mapping[str, object], key: str) -> list[Mapping[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        _refuse(f"{key} is written as [[trust.{key}]] tables")
    return value


def _check_keys(where: str, item: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(item) - known)
    if unknown:
        _refuse(f"{where} has the unknown key {unknown[0]!r:.60}")


def _text(where: str, item: Mapping[str, Any], key: str) -> str:
    value = item.get(key, "")
    if not isinstance(value, str):
        _refuse(f"{where} {key} is not text")
    return value


def _day(where: str, item: Mapping[str, Any], key: str) -> date | None:
    value = item.get(key)
    if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
        _refuse(f"{where} {key} = {value!r:.40}, expected a day such as 2027-06-30")
    return value


def _der(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        _refuse("a key is not base64")


def _refuse(message: str) -> NoReturn:
    raise InvalidInput(
        f"policy: {message}",
        code="bad-policy",
        hint="docs/spec/signatures.md shows every line; nothing was let pass",
    )
