"""Signing versions: nothing is read, signatures travel, and whatever is altered is refused and named."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from assay.artifact.collect import collect
from assay.errors import NotFound
from assay.policy.trust import Requirement, Trust, TrustedKey
from assay.service import publish, purge, signatures, transfer
from assay.service.registry import Registry, read_manifest, read_small
from assay.service.signatures import check_bundle, sign, verify_signatures
from assay.service.verify import State, verify
from assay.settings import Settings
from assay.signing.certificates import CertificateSigner
from assay.spec.bundle import BUNDLE_TYPE, MAX_BUNDLE, Bundle
from assay.spec.digest import Digest
from assay.spec.records import Version
from assay.spec.signature import Standing, files_statement, manifest_statement
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_layout, open_registry
from assay.wiring.signing import verifiers_of

TODAY = date(2027, 1, 1)


def blob_file(registry: Registry, digest: Digest) -> Path:
    file = registry.blobs.local_file(digest)
    assert file is not None
    return file


def flip(file: Path, position: int = -1) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


def bundles(registry: Registry, version: Version) -> list[Digest]:
    referrers = [one for one in registry.referrers(version.manifest) if one.artifact_type == BUNDLE_TYPE]
    return [read_manifest(registry.blobs, one.manifest).layers[0].digest for one in referrers]


def trusting(*keys) -> Trust:
    trusted = tuple(TrustedKey(name=key.file.stem, pem=key.public_pem) for key in keys)
    return Trust(trusted, (Requirement("*", tuple(key.name for key in trusted)),))


def check(registry: Registry, version: Version, trust: Trust):
    return signatures.judge(registry, version, verifiers_of(trust), trust, TODAY)


def standings(checks) -> list[tuple[str, str]]:
    return [(one.covers, one.standing.value) for one in checks]


def test_files_and_manifest_are_signed_without_opening_a_file(registry, version, key, monkeypatch) -> None:
    manifest = registry.manifest(version)
    files = {entry.digest for entry in manifest.entries()}
    opened = registry.blobs.open

    def guarded(digest: Digest):
        assert digest not in files, "a file of the artifact was opened"
        return opened(digest)

    monkeypatch.setattr(type(registry.blobs), "open", lambda _self, digest: guarded(digest))
    signed = sign(registry, version, key.signer)
    judged = check(registry, version, trusting(key))

    assert signed.added == 2
    assert judged.ok
    assert standings(judged.checks) == [("files", "valid"), ("manifest", "valid")]
    assert {one.key for one in judged.checks} == {key.signer.seal.key}


def test_the_same_signature_is_kept_once_and_the_artifact_stays_the_same(registry, version, key) -> None:
    assert sign(registry, version, key.signer).added == 2
    assert sign(registry, version, key.signer).added == 0
    assert registry.catalog.version("team/model").manifest == version.manifest
    assert len(bundles(registry, version)) == 2


def test_a_signature_is_kept_as_cosign_keeps_it(registry, version, key) -> None:
    sign(registry, version, key.signer)
    for referrer in registry.referrers(version.manifest):
        if referrer.artifact_type != BUNDLE_TYPE:
            continue
        body = json.loads(registry.blobs.open(referrer.manifest).read(0, 1 << 20))
        assert body["subject"]["digest"] == str(version.manifest)
        assert [layer["mediaType"] for layer in body["layers"]] == [BUNDLE_TYPE]
        assert body["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        assert body["annotations"]["dev.sigstore.bundle.content"] == "dsse-envelope"
        assert body["annotations"]["dev.sigstore.bundle.predicateType"] in {
            "https://model_signing/signature/v1.0",
            "https://sigstore.dev/cosign/sign/v1",
        }


def test_signatures_travel_with_a_copy_and_hold_there(registry, version, key, root, tmp_path: Path) -> None:
    sign(registry, version, key.signer)
    sign(registry, version, CertificateSigner(key.private, [root.issue(key.private)]))
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="1")
    other = open_registry(Settings(tmp_path / "other", "tester"), create=True)

    there = transfer.copy_in(other, "renamed", blobs, index).version

    authority = TrustedKey(name="ci", pem=root.pem, identity="build@example.org")
    trust = Trust((*trusting(key).keys, authority), (Requirement("renamed", ("release", "ci"), 2),))
    judged = signatures.judge(other, there, verifiers_of(trust), trust, TODAY)
    assert [one.signer for one in judged.checks] == ["release", "release", "ci", "ci"]
    assert [one.standing for one in judged.checks] == [Standing.VALID] * 4
    assert judged.checks[2].identity == "build@example.org"
    assert judged.problems == (
        "renamed must be signed by 2 of release, ci: it is signed by ci, release, all with one key",
    )


def test_a_flipped_bit_in_the_weights_is_named(registry, version, key) -> None:
    sign(registry, version, key.signer)
    weights = next(entry for entry in registry.manifest(version).entries() if entry.path == "model.safetensors")
    flip(blob_file(registry, weights.digest))

    assert [(one.path, one.state) for one in verify(registry, version).bad] == [("model.safetensors", State.DAMAGED)]


def test_a_flipped_bit_in_the_manifest_is_named(registry, version, key) -> None:
    sign(registry, version, key.signer)
    flip(blob_file(registry, version.manifest), 10)

    assert [one.path for one in verify(registry, version).bad] == ["manifest"]


@pytest.mark.parametrize("position", [0, 100, 700, -40])
def test_a_flipped_bit_in_a_stored_bundle_is_refused_and_named(registry, version, key, position: int) -> None:
    sign(registry, version, key.signer)
    damaged = bundles(registry, version)[0]
    flip(blob_file(registry, damaged), position)

    judged = check(registry, version, trusting(key))

    assert standings(judged.checks) == [("", "invalid"), ("manifest", "valid")]
    assert damaged.short in judged.problems[0]
    assert [one.path for one in verify(registry, version).bad] == [f"statement {BUNDLE_TYPE}, document"]


def test_what_was_signed_for_other_files_is_refused_and_the_file_is_named(registry, version, key) -> None:
    digests = {entry.path: entry.digest for entry in registry.manifest(version).entries()}
    verifiers = verifiers_of(trusting(key))

    def reason(said: dict[str, Digest]) -> str:
        data = key.signer.sign(files_statement("m", said)).to_bytes()
        found = check_bundle(data, digests, verifiers, manifest=version.manifest)
        assert (found.standing, found.signer) == (Standing.INVALID, "release")
        return found.reason

    assert "settings.json differs" in reason({**digests, "settings.json": Digest.of(b"other")})
    assert "gone.bin is missing" in reason({**digests, "gone.bin": Digest.of(b"")})
    assert "extra.json is not signed" in reason({p: d for p, d in digests.items() if p != "extra.json"})
    other = key.signer.sign(manifest_statement(Digest.of(b"other"))).to_bytes()
    assert "this is" in check_bundle(other, digests, verifiers, manifest=version.manifest).reason
    assert "plain folder" in check_bundle(other, digests, verifiers).reason


def test_an_altered_statement_under_an_old_signature_is_refused(registry, version, key) -> None:
    sign(registry, version, key.signer)
    digests = {entry.path: entry.digest for entry in registry.manifest(version).entries()}
    old = Bundle.parse(read_small(registry.blobs, bundles(registry, version)[0], MAX_BUNDLE))
    altered = Bundle(files_statement("evil", digests), old.signature, hint=old.hint)

    found = check_bundle(altered.to_bytes(), digests, verifiers_of(trusting(key)), manifest=version.manifest)

    assert found.standing is Standing.INVALID
    assert "does not match what it signs" in found.reason


def test_a_signature_by_somebody_else_is_untrusted_and_does_not_hide_ours(registry, version, new_key) -> None:
    ours, theirs = new_key("ours"), new_key("theirs")
    sign(registry, version, theirs.signer)
    assert not check(registry, version, trusting(ours)).ok
    sign(registry, version, ours.signer)

    judged = check(registry, version, trusting(ours))

    assert judged.ok
    assert [one.standing.value for one in judged.checks] == ["untrusted", "untrusted", "valid", "valid"]


def test_without_keys_signatures_are_listed_as_untrusted(registry, version, key) -> None:
    sign(registry, version, key.signer)
    assert standings(verify_signatures(registry, version, [])) == [("files", "untrusted"), ("manifest", "untrusted")]


def test_git_files_of_an_artifact_are_covered_by_the_manifest_signature_alone(registry, model: Path, key) -> None:
    (model / ".gitattributes").write_text("*.bin filter=lfs")
    guard = guard_of(Settings(Path(registry.place), "tester"))
    version = publish.push(registry, collect(model), "team/git", guard=guard).version
    sign(registry, version, key.signer)

    judged = check(registry, version, trusting(key))

    assert [(one.covers, one.reason) for one in judged.checks] == [
        ("files", "does not cover .gitattributes"),
        ("manifest", ""),
    ]


def test_a_keyless_signature_is_untrusted_by_keys_and_authorities_and_is_no_damage(
    registry, version, key, root
) -> None:
    body = json.loads(key.signer.sign(manifest_statement(version.manifest)).to_bytes())
    body["verificationMaterial"] = {"certificate": {"rawBytes": "aGVsbG8="}, "tlogEntries": [{}]}
    authority = TrustedKey(name="ci", pem=root.pem)

    found = check_bundle(json.dumps(body).encode(), {}, verifiers_of(Trust((*trusting(key).keys, authority))))

    assert (found.standing, found.covers) == (Standing.UNTRUSTED, "manifest")


def test_a_purged_version_cannot_be_signed(registry, version, key) -> None:
    purge.purge(registry, version, reason="leak", snapshots=Path(registry.place) / "snapshots")
    with pytest.raises(NotFound) as caught:
        sign(registry, registry.catalog.version("team/model", 1), key.signer)
    assert caught.value.code == "purged"
