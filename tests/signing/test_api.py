"""Signing from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import assay
from assay.errors import InvalidInput


def test_a_version_is_signed_and_judged_from_python(registry, version, new_key, root, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    release, ci = new_key("release"), new_key("ci")
    (tmp_path / "root.pem").write_text(root.pem)
    (tmp_path / "leaf.pem").write_bytes(root.issue(ci.private).public_bytes(Encoding.PEM))
    home = registry.place

    signed = assay.sign("team/model", release.file, home=home)
    assert (signed.version, signed.added) == (version, 2)
    assert assay.signatures("team/model", keys=[release.public_file], home=home).ok
    assert not assay.signatures("team/model", keys=[ci.public_file], home=home).ok

    assay.sign("team/model", ci.file, certificates=[tmp_path / "leaf.pem"], home=home)
    trusted = {"certificates": [tmp_path / "root.pem"], "home": home}
    assert assay.signatures("team/model", identity="build@example.org", **trusted).ok
    assert not assay.signatures("team/model", identity="me@example.org", **trusted).ok
    with pytest.raises(InvalidInput, match="no certificate"):
        assay.signatures("team/model", identity="me@example.org", home=home)
