"""Trust: who counts today, who must have signed, and lines that no policy may hold."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import date

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.policy.trust import NO_TRUST, Judgement, Trust, join, judge_signers, parse_trust
from assay.signing.keys import fingerprint, pem_of
from assay.spec.digest import Digest
from assay.spec.signature import SignatureCheck, Standing

OLD, NEW, AUDIT = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(3))
FIRST, LATER = date(2027, 1, 1), date(2027, 6, 1)


def signer(name: str, key, *lines: str) -> str:
    return "\n".join(["[[signer]]", f'name = "{name}"', f"public_key = '''\n{pem_of(key).decode()}'''", *lines, ""])


def require(models: str, *signers: str, at_least: int = 1) -> str:
    return f'[[require]]\nmodels = "{models}"\nsigners = {list(signers)}\nat_least = {at_least}\n'


def trust(*parts: str) -> Trust:
    return parse_trust(tomllib.loads("\n".join(parts)))


def signed(name: str, key, standing: Standing = Standing.VALID) -> SignatureCheck:
    mark = fingerprint(key)
    return SignatureCheck(
        standing=standing,
        signature=Digest.of(b"s"),
        covers="manifest",
        signer=name,
        key=mark,
        anchor=mark,
        reason="why",
    )


def test_an_empty_table_trusts_nobody_and_asks_for_nothing() -> None:
    assert parse_trust({}) == NO_TRUST
    assert judge_signers("m", [], NO_TRUST, FIRST).ok


def test_models_that_a_pattern_names_need_a_signature() -> None:
    rules = trust(signer("release", NEW), require("fraud/*", "release"))

    assert judge_signers("fraud/churn", [signed("release", NEW)], rules, FIRST).ok
    assert judge_signers("other", [], rules, FIRST).ok
    assert judge_signers("fraud/churn", [], rules, FIRST).problems == (
        "fraud/churn must be signed by 1 of release: it is signed by none of them",
    )


def test_two_signatures_of_one_signer_are_one_signer() -> None:
    rules = trust(signer("release", NEW), signer("audit", AUDIT), require("*", "release", "audit", at_least=2))

    assert not judge_signers("m", [signed("release", NEW), signed("release", NEW)], rules, FIRST).ok
    assert judge_signers("m", [signed("release", NEW), signed("audit", AUDIT)], rules, FIRST).ok


def test_every_requirement_that_names_the_model_must_be_met() -> None:
    rules = trust(signer("release", NEW), signer("audit", AUDIT), require("*", "release"), require("f/*", "audit"))

    assert judge_signers("m", [signed("release", NEW)], rules, FIRST).ok
    assert not judge_signers("f/m", [signed("release", NEW)], rules, FIRST).ok


def test_keys_are_rotated_with_an_overlap_in_which_both_count() -> None:
    rules = trust(
        signer("release", OLD, "not_after = 2027-03-31"),
        signer("release", NEW, "not_before = 2027-03-01"),
        require("*", "release"),
    )

    def ok(key, day: date) -> bool:
        return judge_signers("m", [signed("release", key)], rules, day).ok

    days = [date(2027, 2, 28), date(2027, 3, 1), date(2027, 3, 31), date(2027, 4, 1)]
    assert [ok(OLD, day) for day in days] == [True, True, True, False]
    assert [ok(NEW, day) for day in days] == [False, True, True, True]


def test_a_revoked_key_counts_for_nothing_from_that_day_on_and_the_reason_is_told() -> None:
    rules = trust(
        signer("release", OLD, "revoked = 2027-05-01", 'reason = "the laptop was stolen"'), require("*", "release")
    )

    assert judge_signers("m", [signed("release", OLD)], rules, FIRST).ok
    judged = judge_signers("m", [signed("release", OLD)], rules, LATER)
    assert judged.checks[0].standing is Standing.REVOKED
    assert "revoked on 2027-05-01: the laptop was stolen" in judged.problems[0]


def test_a_key_can_be_revoked_by_its_fingerprint_whoever_vouches_for_it() -> None:
    line = f'[[revoked]]\nkey = "{fingerprint(OLD)}"\nsince = 2027-05-01\nreason = "leaked"\n'
    rules = trust(signer("release", OLD), require("*", "release"), line)

    assert judge_signers("m", [signed("release", OLD)], rules, FIRST).ok
    assert not judge_signers("m", [signed("release", OLD)], rules, LATER).ok


def test_a_name_does_not_count_without_one_of_its_keys() -> None:
    rules = trust(signer("release", NEW), require("*", "release"))
    judged = judge_signers("m", [signed("release", OLD)], rules, FIRST)
    assert judged.checks[0].standing is Standing.UNTRUSTED
    assert not judged.ok


def test_an_invalid_signature_is_a_problem_even_beside_a_valid_one() -> None:
    rules = trust(signer("release", NEW), require("*", "release"))
    checks = [signed("release", NEW), signed("release", NEW, Standing.INVALID)]
    assert judge_signers("m", checks, rules, FIRST).problems == ("a signature is invalid: why",)


def test_several_policies_speak_together_and_the_gravest_word_counts() -> None:
    good = Judgement((signed("a", NEW),), ())
    bad = Judgement((signed("a", NEW, Standing.REVOKED),), ("no",))
    assert join([good, bad]).checks[0].standing is Standing.REVOKED
    assert join([good, bad]).problems == ("no",)
    assert join([good]) == good


def test_a_keyless_signer_is_an_identity_that_one_service_confirms() -> None:
    line = '[[signer]]\nname = "ci"\nidentity = "{}@example.org"\nissuer = "https://accounts.example.org"\n'
    rules = trust(line.format("build"), line.format("audit").replace("ci", "audit"), require("*", "ci"))
    issuer = "https://accounts.example.org"
    check = SignatureCheck(
        standing=Standing.VALID, signature=Digest.of(b"s"), signer="ci", key="sha256:1", anchor=issuer
    )

    assert judge_signers("m", [check], rules, FIRST).ok
    assert not judge_signers("m", [replace(check, anchor="https://other.example.org")], rules, FIRST).ok


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[other]", "unknown table"),
        ("signer = 3", "tables"),
        ('[[signer]]\nname = "a"', "one of public_key, certificate or issuer"),
        (signer("a", NEW).replace("name", "nome"), "unknown key"),
        (signer("", NEW), "needs a name"),
        (signer("a", NEW, 'identity = "x"'), "bare key"),
        (signer("a", NEW, "revoked = 2027-01-01"), "needs a reason"),
        (signer("a", NEW, "not_after = 2027-01-01T00:00:00Z"), "expected a day"),
        (signer("a", NEW, 'not_after = "soon"'), "expected a day"),
        (signer("a", NEW) + signer("b", NEW), "given twice"),
        (signer("a", NEW, 'issuer = "https://accounts.example.org"'), "one of public_key"),
        ('[[signer]]\nname = "a"\nissuer = "https://accounts.example.org"', "whose identity counts"),
        ('[[signer]]\nname = "a"\npublic_key = "key"', "as PEM text"),
        (f"[[signer]]\nname = 'a'\ncertificate = '''{pem_of(NEW).decode()}'''", "as PEM text"),
        (f"[[signer]]\nname = 'a'\npublic_key = '''{pem_of(NEW).decode() * 2}'''", "one public key"),
        (require("*", "nobody"), "no \\[\\[trust.signer\\]\\]"),
        (signer("a", NEW) + require("*", "a", at_least=2), "expected 1 to 1"),
        (signer("a", NEW) + require("*", "a", at_least=0), "expected 1 to 1"),
        (signer("a", NEW) + require("*"), "needs models and signers"),
        ('[[revoked]]\nkey = "sha256:12"\nsince = 2027-01-01\nreason = "x"', "64 hex digits"),
    ],
)
def test_a_line_that_says_nothing_clear_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        trust(text)
    assert caught.value.code == "bad-policy"


@given(st.lists(st.tuples(st.sampled_from(["release", "audit", "x"]), st.sampled_from(list(Standing))), max_size=5))
def test_only_valid_signatures_of_the_named_ever_satisfy_a_requirement(found: list[tuple[str, Standing]]) -> None:
    keys = {"release": NEW, "audit": AUDIT, "x": OLD}
    rules = trust(signer("release", NEW), signer("audit", AUDIT), signer("x", OLD), require("*", "release", "audit"))
    checks = [signed(name, keys[name], standing) for name, standing in found]

    ok = judge_signers("m", checks, rules, FIRST).ok

    good = any(name in {"release", "audit"} and standing is Standing.VALID for name, standing in found)
    assert ok == (good and all(standing is not Standing.INVALID for _, standing in found))
