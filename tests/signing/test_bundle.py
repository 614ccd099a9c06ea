"""The bundle and what is signed: no bit is without meaning, and statements that contradict themselves are refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, InvalidInput
from assay.service.signatures import check_bundle
from assay.signing.certificates import CertificateSigner, CertificateVerifier
from assay.signing.keys import KeyVerifier
from assay.spec.bundle import BUNDLE_TYPE, Bundle
from assay.spec.digest import Digest
from assay.spec.signature import (
    SignedFiles,
    Standing,
    compare,
    files_statement,
    manifest_statement,
    read_payload,
)

FILES = {"a.bin": Digest.of(b"a"), "sub/b": Digest.of(b"b"), "sub.txt": Digest.of(b"c")}
names = st.lists(
    st.text("abcÄ名.-_ ", min_size=1, max_size=8).filter(lambda text: text not in {".", ".."}), min_size=1, max_size=3
).map("/".join)


def altered(change: Callable[[dict], object]) -> bytes:
    body = json.loads(files_statement("m", FILES))
    change(body)
    return json.dumps(body).encode()


def resealed(change: Callable[[list], object]) -> bytes:
    """A statement whose resources were changed and whose root digest fits them."""
    body = json.loads(files_statement("m", FILES))
    resources = body["predicate"]["resources"]
    change(resources)
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    body["subject"][0]["digest"]["sha256"] = root
    return json.dumps(body).encode()


def test_files_are_listed_in_the_order_of_path_components_under_one_root() -> None:
    body = json.loads(files_statement("m", FILES))

    assert [one["name"] for one in body["predicate"]["resources"]] == ["a.bin", "sub/b", "sub.txt"]
    ordered = b"".join(bytes.fromhex(FILES[name].hex) for name in ["a.bin", "sub/b", "sub.txt"])
    assert body["subject"] == [{"name": "m", "digest": {"sha256": hashlib.sha256(ordered).hexdigest()}}]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, st.binary(max_size=4), min_size=1, max_size=6))
def test_what_a_files_statement_says_is_read_back(files: dict[str, bytes]) -> None:
    digests = {path: Digest.of(data) for path, data in files.items()}
    said = read_payload(files_statement("m", digests))
    assert isinstance(said, SignedFiles)
    assert said.digests == digests


def test_the_manifest_statement_is_about_the_manifest_digest() -> None:
    digest = Digest.of(b"manifest")
    assert read_payload(manifest_statement(digest)) == digest


def test_git_files_are_left_out_and_named_as_ignored() -> None:
    body = json.loads(files_statement("m", {**FILES, ".gitattributes": Digest.of(b"x"), "sub/.git": Digest.of(b"y")}))

    assert [one["name"] for one in body["predicate"]["resources"]] == ["a.bin", "sub/.git", "sub/b", "sub.txt"]
    assert ".gitattributes" in body["predicate"]["serialization"]["ignore_paths"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (altered(lambda body: body.update(predicateType="https://example.org/other")), "predicate type"),
        (altered(lambda body: body.update(_type="https://in-toto.io/Statement/v0.1")), "in-toto"),
        (altered(lambda body: body["subject"].append(body["subject"][0])), "one subject"),
        (altered(lambda body: body["predicate"]["resources"].pop()), "root digest"),
        (altered(lambda body: body["predicate"]["resources"].reverse()), "root digest"),
        (altered(lambda body: body["predicate"]["serialization"].update(hash_type="md5")), "sha256"),
        (altered(lambda body: body["predicate"]["serialization"].update(method="shards")), "whole files"),
        (resealed(lambda found: found.append(found[0])), "listed twice"),
        (resealed(lambda found: found[0].update(name="../a.bin")), "unsafe entry path"),
        (resealed(lambda found: found[0].update(name="/etc/passwd")), "unsafe entry path"),
        (resealed(lambda found: found[0].update(name="sub//b")), "unsafe entry path"),
        (resealed(lambda found: found[0].update(algorithm="sha1", digest="00" * 20)), "not a sha256"),
        (resealed(lambda found: found[0].update(digest="AB" * 32)), "not a sha256"),
        (resealed(lambda found: found.clear()), "no resources"),
        (files_statement("m", FILES).replace(b'"predicate":', b'"predicate":{},"predicate":', 1), "twice"),
        (b"[]", "not an object"),
        (b"\xff", "in-toto"),
    ],
)
def test_a_statement_that_is_altered_is_refused_and_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        read_payload(payload)
    assert caught.value.code == "invalid-signed-statement"


def test_missing_extra_and_changed_files_are_each_named() -> None:
    said = read_payload(files_statement("m", FILES))
    assert isinstance(said, SignedFiles)
    found = {"a.bin": Digest.of(b"A"), "sub.txt": FILES["sub.txt"], "new.py": Digest.of(b"")}

    differing, _ = compare(said, found, Digest.of(b"bundle"))

    assert [line.split(":")[0] for line in differing] == ["sub/b is missing", "a.bin differs", "new.py is not signed"]


def test_only_git_files_and_the_signature_itself_may_lie_beside_what_is_signed() -> None:
    bundle = Digest.of(b"bundle")
    said = SignedFiles("m", FILES, ("model.sig", ".git", "hidden.py"))

    assert compare(said, {**FILES, "model.sig": bundle, ".git/HEAD": Digest.of(b"x")}, bundle) == ([], [".git/HEAD"])
    assert compare(said, {**FILES, "model.sig": Digest.of(b"other")}, bundle)[0] == ["model.sig is not signed"]
    assert compare(said, {**FILES, "hidden.py": Digest.of(b"x")}, bundle)[0] == ["hidden.py is not signed"]
    assert compare(said, {**FILES, ".gitignore": Digest.of(b"x")}, bundle)[0] == [".gitignore is not signed"]


def test_no_bit_of_a_bundle_can_be_flipped(key) -> None:
    digests = {"a": Digest.of(b"a")}
    data = key.signer.sign(files_statement("m", digests)).to_bytes()
    verifiers = [KeyVerifier("release", key.public_pem.encode())]
    assert check_bundle(data, digests, verifiers).standing is Standing.VALID

    accepted = []
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            if check_bundle(bytes(flipped), digests, verifiers).standing is Standing.VALID:
                accepted.append((position, bit))
    assert accepted == []


def test_no_byte_of_a_bundle_with_a_certificate_can_be_changed(key, root) -> None:
    digests = {"a": Digest.of(b"a")}
    data = CertificateSigner(key.private, [root.issue(key.private)]).sign(files_statement("m", digests)).to_bytes()
    verifiers = [CertificateVerifier("ci", root.pem.encode())]
    assert check_bundle(data, digests, verifiers).standing is Standing.VALID

    accepted = []
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 7
        if check_bundle(bytes(flipped), digests, verifiers).standing is Standing.VALID:
            accepted.append(position)
    assert accepted == []


def test_every_bit_of_the_statement_is_signed(key) -> None:
    bundle = key.signer.sign(manifest_statement(Digest.of(b"m")))
    verifier = KeyVerifier("release", key.public_pem.encode())
    for position in range(len(bundle.payload)):
        payload = bytearray(bundle.payload)
        payload[position] ^= 1
        with pytest.raises(AssayError) as caught:
            verifier.check(Bundle(bytes(payload), bundle.signature, hint=bundle.hint))
        assert caught.value.code == "signature-invalid"


def document(**changes: object) -> bytes:
    body = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "aa"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(b"{}").decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": base64.b64encode(b"s").decode(), "keyid": ""}],
        },
    }
    for path, value in changes.items():
        place = body
        *above, last = path.split("__")
        for step in above:
            place = place[step]
        place[last] = value
    return json.dumps(body).encode()


def test_a_bundle_of_another_tool_with_nulls_for_nothing_is_read() -> None:
    found = Bundle.parse(document(verificationMaterial__timestampVerificationData=None))
    assert (found.payload, found.signature, found.hint) == (b"{}", b"s", "aa")


def test_a_keyless_bundle_is_kept_byte_for_byte() -> None:
    data = document(verificationMaterial={"certificate": {"rawBytes": "aGVsbG8="}, "tlogEntries": [{"logIndex": "1"}]})
    found = Bundle.parse(data)
    assert (found.keyless, found.to_bytes(), found.chain, found.hint) == (data, data, (b"hello",), "")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (document(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"), "invalid-bundle"),
        (document(other=1), "invalid-bundle"),
        (document(dsseEnvelope__payloadType="text/plain"), "invalid-bundle"),
        (document(dsseEnvelope__signatures=[]), "invalid-bundle"),
        (document(dsseEnvelope__signatures=[{"sig": "cw=="}, {"sig": "cw=="}]), "invalid-bundle"),
        (document(dsseEnvelope__signatures=[{"sig": "cw==", "keyid": "x"}]), "invalid-bundle"),
        (document(dsseEnvelope__signatures=[{"sig": "cx=="}]), "invalid-bundle"),
        (document(dsseEnvelope__payload="e30"), "invalid-bundle"),
        (document(dsseEnvelope__payload=3), "invalid-bundle"),
        (document(verificationMaterial__x509CertificateChain={"certificates": []}), "invalid-bundle"),
        (document(verificationMaterial={}), "invalid-bundle"),
        (document(verificationMaterial=[]), "invalid-bundle"),
        (document(verificationMaterial={"x509CertificateChain": {"certificates": []}}), "invalid-bundle"),
        (document(verificationMaterial={"certificate": {"rawBytes": "x"}}), "invalid-bundle"),
        (document(verificationMaterial={"certificate": {"rawBytes": ""}, "publicKey": {}}), "invalid-bundle"),
        (document(messageSignature={}), "unsupported-bundle"),
        (b"", "invalid-bundle"),
        (b"[" * 100_000, "invalid-bundle"),
        (b'{"mediaType": 1, "mediaType": 2}', "invalid-bundle"),
    ],
)
def test_what_is_not_a_bundle_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Bundle.parse(data)
    assert caught.value.code == code


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "sig", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
places = st.sampled_from([
    "mediaType", "verificationMaterial", "verificationMaterial__publicKey", "verificationMaterial__publicKey__hint",
    "verificationMaterial__certificate", "verificationMaterial__x509CertificateChain", "dsseEnvelope",
    "dsseEnvelope__payload", "dsseEnvelope__signatures",
])  # fmt: skip
fields = st.sampled_from(
    ["_type", "subject", "predicateType", "predicate", "serialization", "resources", "name", "digest"]
)


@given(places, values)
def test_a_bundle_with_anything_in_any_place_is_read_or_refused(place: str, value: object) -> None:
    with suppress(AssayError):
        Bundle.parse(document(**{place: value}))


@given(fields, values)
def test_a_statement_with_anything_in_any_place_is_read_or_refused(field: str, value: object) -> None:
    body = json.loads(files_statement("m", FILES))
    for holder in (body, body["subject"][0], body["predicate"], body["predicate"]["resources"][0]):
        if field in holder:
            holder[field] = value
            break
    with suppress(AssayError):
        read_payload(json.dumps(body).encode())


@given(st.binary(max_size=200))
def test_only_our_own_errors_leave_the_readers(data: bytes) -> None:
    for read in (Bundle.parse, read_payload):
        with pytest.raises(AssayError):
            read(data)
