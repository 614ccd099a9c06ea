"""Keys and certificates: which are accepted, and whose signature counts."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from signing_authority import Authority, new_root

from assay.errors import AssayError
from assay.signing.certificates import CertificateSigner, CertificateVerifier, parse_certificates
from assay.signing.keys import KeySigner, KeyVerifier, make_key, read_private_key
from assay.spec.bundle import Bundle

PAYLOAD = b'{"a": 1}'


def code(action, *arguments: object) -> str:
    with pytest.raises(AssayError) as caught:
        action(*arguments)
    return caught.value.code


def pem(private) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_a_key_recognises_its_own_signature_read_back_from_bytes(new_key, curve: str) -> None:
    key = new_key("release", curve)
    bundle = Bundle.parse(KeySigner(read_private_key(key.file, None)).sign(PAYLOAD).to_bytes())

    seal = KeyVerifier("release", key.public_pem.encode()).check(bundle)

    assert seal == key.signer.seal


def test_the_same_payload_gives_the_same_bundle(key) -> None:
    assert key.signer.sign(PAYLOAD) == key.signer.sign(PAYLOAD)


def test_another_key_and_another_curve_are_untrusted(new_key) -> None:
    bundle = new_key("a").signer.sign(PAYLOAD)
    for other in (new_key("b"), new_key("c", "P-384")):
        verifier = KeyVerifier("other", other.public_pem.encode())
        assert code(verifier.check, bundle) == "signature-untrusted"
        assert code(verifier.check, Bundle(bundle.payload, bundle.signature)) == "signature-untrusted"


def test_a_bundle_that_borrows_the_name_of_a_key_is_invalid(new_key) -> None:
    victim, thief = new_key("victim"), new_key("thief")
    forged = Bundle(PAYLOAD, thief.signer.sign(PAYLOAD).signature, hint=victim.signer.sign(PAYLOAD).hint)
    assert code(KeyVerifier("victim", victim.public_pem.encode()).check, forged) == "signature-invalid"


def test_keys_that_cannot_sign_models_are_refused(tmp_path: Path) -> None:
    for name, private in {
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 2048),
        "k1": ec.generate_private_key(ec.SECP256K1()),
    }.items():
        file = tmp_path / name
        file.write_bytes(pem(private))
        assert code(read_private_key, file, None) == "bad-key"
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert code(KeyVerifier, name, public) == "bad-key"
    (tmp_path / "text").write_text("hello")
    assert code(read_private_key, tmp_path / "text", None) == "bad-key"
    (tmp_path / "cosign").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    assert code(read_private_key, tmp_path / "cosign", None) == "bad-key"
    assert code(read_private_key, tmp_path / "nothing", None) == "path-not-found"


def test_a_new_key_is_for_its_owner_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    public = make_key(tmp_path / "release", b"secret")

    assert stat.S_IMODE((tmp_path / "release").stat().st_mode) == 0o600
    assert code(read_private_key, tmp_path / "release", None) == "key-password"
    assert code(read_private_key, tmp_path / "release", b"wrong") == "key-password"
    signer = KeySigner(read_private_key(tmp_path / "release", b"secret"))
    assert KeyVerifier("release", public.read_bytes()).check(signer.sign(PAYLOAD)) == signer.seal
    assert code(make_key, tmp_path / "release", None) == "key-exists"
    (tmp_path / "other.pub").touch()
    assert code(make_key, tmp_path / "other", None) == "key-exists"
    assert not (tmp_path / "other").exists()


def certified(root, key, *above: x509.Certificate, **options) -> Bundle:
    return CertificateSigner(key.private, [root.issue(key.private, **options), *above]).sign(PAYLOAD)


def test_a_certificate_of_a_trusted_root_is_recognised_with_its_identity(root, key) -> None:
    bundle = Bundle.parse(certified(root, key).to_bytes())

    seal = CertificateVerifier("ci", root.pem.encode(), identity="build@example.org").check(bundle)

    assert (seal.key, seal.identity) == (key.signer.seal.key, "build@example.org")
    assert seal.anchor.startswith("sha256:")
    assert seal.anchor != seal.key


def test_a_chain_may_pass_through_authorities_and_show_its_root(root, new_key) -> None:
    between, key = new_key("between"), new_key("leaf")
    certificate = root.issue(between.private, "Between", authority=True)
    lower = Authority(between.private, certificate)
    verifier = CertificateVerifier("ci", root.pem.encode())

    assert verifier.check(certified(lower, key, certificate)).identity == "build@example.org"
    assert verifier.check(certified(lower, key, certificate, root.certificate)).identity == "build@example.org"
    assert code(verifier.check, certified(lower, key)) == "signature-untrusted"


def test_a_certificate_that_is_no_authority_cannot_issue_one(root, new_key) -> None:
    middle, key = new_key("middle"), new_key("leaf")
    certificate = root.issue(middle.private, "middle@example.org")
    bundle = certified(Authority(middle.private, certificate), key, certificate)
    assert code(CertificateVerifier("ci", root.pem.encode()).check, bundle) == "signature-untrusted"


def test_other_roots_identities_uses_and_times_are_refused(root, key) -> None:
    verifier = CertificateVerifier("ci", root.pem.encode(), identity="build@example.org")
    assert code(verifier.check, certified(new_root("Test root"), key)) == "signature-untrusted"
    assert code(verifier.check, certified(root, key, identity="somebody@example.org")) == "signature-untrusted"
    assert code(verifier.check, certified(root, key, use=(ExtendedKeyUsageOID.SERVER_AUTH,))) == "signature-untrusted"
    assert code(verifier.check, certified(root, key, signs=False)) == "signature-untrusted"
    assert code(verifier.check, certified(root, key, days=(-20, -10))) == "signature-expired"
    assert code(verifier.check, certified(root, key, new_root("x").certificate)) == "signature-untrusted"
    assert code(verifier.check, key.signer.sign(PAYLOAD)) == "signature-untrusted"
    later = CertificateVerifier("ci", root.pem.encode(), now=datetime.now(UTC) + timedelta(days=60))
    assert code(later.check, certified(root, key)) == "signature-expired"


def test_the_certified_key_must_have_made_the_signature(root, new_key) -> None:
    good = certified(root, new_key("a"))
    forged = Bundle(PAYLOAD, new_key("b").signer.sign(PAYLOAD).signature, chain=good.chain)
    assert code(CertificateVerifier("ci", root.pem.encode()).check, forged) == "signature-invalid"


def test_damaged_certificates_are_refused_without_a_crash(root, key) -> None:
    good = certified(root, key)
    verifier = CertificateVerifier("ci", root.pem.encode())
    for position in range(len(good.chain[0])):
        raw = bytearray(good.chain[0])
        raw[position] ^= 1
        with pytest.raises(AssayError):
            verifier.check(Bundle(good.payload, good.signature, chain=(bytes(raw),)))


def test_certificates_and_keys_must_belong_together(root, new_key) -> None:
    key, other = new_key("a"), new_key("b")
    assert code(CertificateSigner, key.private, [root.issue(other.private)]) == "bad-certificate"
    assert code(parse_certificates, b"text", "x") == "bad-certificate"
