"""Other people's tools check what we sign, and we check what they sign: model-signing, and cosign in a registry.

Run by ``.ci/run``, which installs them; ``ASSAY_MODEL_SIGNING`` and ``ASSAY_COSIGN`` name the executables.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from signing_authority import new_root

pytestmark = pytest.mark.root

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN_TYPE = "https://sigstore.dev/cosign/sign/v1"
Run = Callable[..., subprocess.CompletedProcess[str]]


def execute(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True)


@pytest.fixture
def assay(tmp_path: Path) -> Run:
    def do(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "assay", *map(str, arguments)]
        return execute(command, ASSAY_HOME=str(tmp_path / "home"))

    return do


@pytest.fixture
def model_signing() -> Run:
    tool = os.environ["ASSAY_MODEL_SIGNING"]
    return lambda *arguments: execute([tool, *map(str, arguments)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub/deep").mkdir(parents=True)
    for name in [
        "weights.bin",
        "sub.txt",
        "sub/b.txt",
        "sub/deep/ö 名.txt",
        "sub-x.txt",
        ".gitattributes",
        "Z.txt",
        "empty",
    ]:
        (folder / name).write_text("" if name == "empty" else name)
    return folder


def write_key(folder: Path, name: str, curve: str = "P-256") -> tuple[Path, Path, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(CURVES[curve])
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public, key


def stored_bundles(layout: Path) -> dict[str, bytes]:
    """Predicate type to bundle, from an OCI layout."""

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    found = {}
    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        manifest = json.loads(blob(entry["digest"]))
        if manifest.get("artifactType") == BUNDLE:
            found[manifest["annotations"]["dev.sigstore.bundle.predicateType"]] = blob(manifest["layers"][0]["digest"])
    return found


@pytest.mark.parametrize("curve", CURVES)
def test_model_signing_verifies_the_signature_of_a_version_against_the_pulled_folder(
    assay: Run, model_signing: Run, model: Path, tmp_path: Path, curve: str
) -> None:
    private, public, _ = write_key(tmp_path, "k", curve)
    for arguments in [("push", model, "m"), ("sign", "m", "--key", private), ("copy", "m", f"oci:{tmp_path}/layout:1")]:
        done = assay(*arguments)
        assert done.returncode == 0, done.stderr
    assert assay("pull", "m", tmp_path / "out").returncode == 0
    signature = tmp_path / "model.sig"
    signature.write_bytes(stored_bundles(tmp_path / "layout")["https://model_signing/signature/v1.0"])

    def verified() -> bool:
        found = model_signing("verify", "key", tmp_path / "out", "--signature", signature, "--public_key", public)
        return found.returncode == 0

    assert verified()
    (tmp_path / "out/weights.bin").write_text("Weights.bin")
    assert not verified()


@pytest.mark.parametrize("curve", CURVES)
def test_a_signature_of_model_signing_is_kept_and_counts(
    assay: Run, model_signing: Run, model: Path, tmp_path: Path, curve: str
) -> None:
    private, public, _ = write_key(tmp_path, "k", curve)
    signature = model / "model.sig"
    assert assay("push", model, "m").returncode == 0
    assert model_signing("sign", "key", model, "--private_key", private, "--signature", signature).returncode == 0

    assert assay("sign", "m", "--attach", signature).returncode == 0
    done = assay("verify", "m", "--key", public, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(one["covers"], one["standing"]) for one in json.loads(done.stdout)["signatures"]] == [("files", "valid")]

    folder = assay("verify", model, "--signature", signature, "--key", public)
    assert folder.returncode == 0, folder.stdout + folder.stderr
    (model / "sub.txt").write_text("other")
    assert "sub.txt differs" in assay("verify", model, "--signature", signature, "--key", public).stdout


def test_folders_signed_here_are_verified_there_with_links_and_certificates(
    assay: Run, model_signing: Run, model: Path, tmp_path: Path
) -> None:
    private, _, key = write_key(tmp_path, "k")
    root = new_root()
    (tmp_path / "root.pem").write_text(root.pem)
    (tmp_path / "leaf.pem").write_bytes(root.issue(key).public_bytes(serialization.Encoding.PEM))
    (model / "link.bin").symlink_to("weights.bin")
    (model / "model.sig").write_text("old")
    theirs, ours = tmp_path / "theirs.sig", model / "model.sig"

    done = assay("sign", model, "--key", private, "--cert", tmp_path / "leaf.pem", "--out", ours)
    assert done.returncode == 0, done.stderr
    there = model_signing(
        "verify", "certificate", model, "--signature", ours, "--certificate_chain", tmp_path / "root.pem",
        "--allow_symlinks",
    )  # fmt: skip
    assert there.returncode == 0, there.stdout + there.stderr

    ours.unlink()
    signed = model_signing(
        "sign", "certificate", model, "--private_key", private, "--signing_certificate", tmp_path / "leaf.pem",
        "--certificate_chain", tmp_path / "root.pem", "--signature", theirs, "--allow_symlinks",
    )  # fmt: skip
    assert signed.returncode == 0, signed.stdout + signed.stderr
    trusted = ("--certificate-chain", tmp_path / "root.pem", "--identity")
    assert assay("verify", model, "--signature", theirs, *trusted, "build@example.org").returncode == 0
    assert assay("verify", model, "--signature", theirs, *trusted, "me@example.org").returncode == 1


def test_cosign_verifies_the_signature_of_the_manifest_in_a_registry(
    assay: Run, registry: str, model: Path, tmp_path: Path
) -> None:
    private, public, _ = write_key(tmp_path, "k")
    _, other, _ = write_key(tmp_path, "other")
    for arguments in [("push", model, "m"), ("sign", "m", "--key", private), ("copy", "m", f"oci:{tmp_path}/layout:1")]:
        done = assay(*arguments)
        assert done.returncode == 0, done.stderr
    digest = upload(tmp_path / "layout", registry)
    no_services = tmp_path / "root.json"
    no_services.write_text('{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')

    def verified(key: Path) -> subprocess.CompletedProcess[str]:
        return execute([
            os.environ["ASSAY_COSIGN"], "verify-attestation", "--key", str(key), "--type", SIGN_TYPE,
            "--new-bundle-format", "--trusted-root", str(no_services), "--insecure-ignore-tlog=true",
            "--allow-http-registry", f"{registry}/team/m@{digest}",
        ])  # fmt: skip

    done = verified(public)
    assert done.returncode == 0, done.stderr
    assert verified(other).returncode != 0


def test_sigstore_refuses_a_keyless_signature_that_its_services_never_saw(tmp_path: Path) -> None:
    private, _, key = write_key(tmp_path, "k")
    leaf = new_root().issue(key, "me@example.org").public_bytes(serialization.Encoding.DER)
    script = """
import base64, json, sys
from pathlib import Path
from assay.errors import VerificationFailed
from assay.signing.keyless import KeylessVerifier
from assay.signing.keys import KeySigner, read_private_key
from assay.spec.bundle import Bundle

body = json.loads(KeySigner(read_private_key(Path(sys.argv[1]), None)).sign(b"{}").to_bytes())
body["verificationMaterial"] = {"certificate": {"rawBytes": sys.argv[2]}, "tlogEntries": []}
forged = Bundle.parse(json.dumps(body).encode())
try:
    KeylessVerifier("me", identity="me@example.org", issuer="https://accounts.example.org").check(forged)
except VerificationFailed as error:
    print(error.code)
"""
    python = str(Path(os.environ["ASSAY_MODEL_SIGNING"]).with_name("python"))
    source = str(Path(__file__).parents[2] / "src")
    certificate = base64.b64encode(leaf).decode()
    done = execute([python, "-c", script, str(private), certificate], PYTHONPATH=source)
    assert done.stdout == "signature-untrusted\n", done.stderr


def upload(layout: Path, registry: str) -> str:
    """Put a layout into a registry that does not know referrers: they go into an index under the fallback tag."""
    base = f"http://{registry}/v2/team/m"

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    def send(method: str, url: str, data: bytes, media_type: str = "application/octet-stream") -> str:
        request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": media_type})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers.get("Location") or ""

    subject, referrers = "", []
    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        body = json.loads(blob(entry["digest"]))
        for part in [body["config"], *body["layers"]]:
            place = send("POST", f"{base}/blobs/uploads/", b"")
            join = "&" if "?" in place else "?"
            send("PUT", f"{place}{join}digest={part['digest']}", blob(part["digest"]))
        send("PUT", f"{base}/manifests/{entry['digest']}", blob(entry["digest"]), body["mediaType"])
        if "subject" in body:
            subject = body["subject"]["digest"]
            kept = {"artifactType": body["artifactType"], "annotations": body["annotations"]}
            referrers.append({"mediaType": body["mediaType"], "digest": entry["digest"], "size": entry["size"], **kept})
    index_type = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": index_type, "manifests": referrers}).encode()
    send("PUT", f"{base}/manifests/{subject.replace(':', '-')}", index, index_type)
    return subject
