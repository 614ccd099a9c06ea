"""`assay copy` and a real docker-registry: with a password, through a network that breaks, and beside skopeo."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking_network import Breaking
from real_registry import serve
from rounds import kills

pytestmark = pytest.mark.root

# Of the password "secret".
HASH = "$2b$05$2d4Vmh/KWIv68VsBzU28EOnEj1UXKG7OP7s91f37A0s96bo1UqIdu"


def assay(home: Path, *arguments: object, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", "--home", str(home), *(str(one) for one in arguments)]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=280)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    source = random.Random(5)
    (folder / "large.bin").write_bytes(source.randbytes(100 << 20))
    (folder / "small.bin").write_bytes(source.randbytes(3 << 20))
    (folder / "config.json").write_text("{}")
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture
def home(model: Path, tmp_path: Path) -> Path:
    assay(tmp_path / "home", "push", model, "team/m", "--note", "hello", "--metric", "auc=0.9")
    return tmp_path / "home"


def test_there_and_back_keeps_digest_and_statements(registry: str, home: Path, tmp_path: Path) -> None:
    out = assay(home, "copy", "team/m", f"oci://{registry}/team/m:v1", "--json")
    again = json.loads(assay(home, "copy", "team/m", f"oci://{registry}/team/m:v2", "--json").stdout)
    back = json.loads(assay(tmp_path / "b", "copy", f"oci://{registry}/team/m:v1", "m", "--json").stdout)

    first = json.loads(out.stdout)
    assert first["digest"] == back["digest"] == again["digest"]
    assert first["verified"] == first["moved"] == back["verified"] > 103 << 20
    assert again["moved"] == 0
    assert back["statements"] == first["statements"] >= 3
    assay(tmp_path / "b", "verify", "--all")


def test_skopeo_reads_what_we_pushed_and_we_read_what_skopeo_pushed(registry: str, home: Path, tmp_path: Path) -> None:
    pushed = assay(home, "copy", "team/m", f"oci://{registry}/sk/m:v1").stdout.split()[1]
    copying = ["skopeo", "copy", "--preserve-digests"]
    source = f"docker://{registry}/sk/m:v1"
    subprocess.run([*copying, "--src-tls-verify=false", source, f"oci:{tmp_path}/layout:v1"], check=True)
    target = f"docker://{registry}/sk/other:v1"
    subprocess.run([*copying, "--dest-tls-verify=false", f"oci:{tmp_path}/layout:v1", target], check=True)

    back = assay(tmp_path / "b", "copy", f"oci://{registry}/sk/other:v1", "m").stdout.split()

    assert back == ["m:1", pushed]
    assay(tmp_path / "b", "pull", "m", tmp_path / "out")
    assert (tmp_path / "out/small.bin").read_bytes() == (tmp_path / "model/small.bin").read_bytes()


def test_a_second_repository_takes_the_blobs_of_the_first(registry: str, home: Path) -> None:
    assay(home, "copy", "team/m", f"oci://{registry}/mount/a:v1")

    copied = json.loads(assay(home, "copy", "team/m", f"oci://{registry}/mount/b:v1", "--json").stdout)

    assert copied["shared"] > 103 << 20
    assert copied["verified"] < 1 << 20


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A registry with a password: ada, secret."""
    (tmp_path / "htpasswd").write_text(f"ada:{HASH}\n")
    yield from serve(tmp_path / "guarded", f"auth: {{htpasswd: {{realm: r, path: {tmp_path}/htpasswd}}}}\n")


def test_a_registry_with_a_password(guarded: str, home: Path, tmp_path: Path) -> None:
    target = f"oci://{guarded}/team/m:v1"
    config = tmp_path / "docker"
    config.mkdir()
    environ = {"DOCKER_CONFIG": str(config), "HOME": str(tmp_path), "XDG_RUNTIME_DIR": ""}

    nobody = assay(home, "copy", "team/m", target, check=False, **environ)
    (config / "config.json").write_text(json.dumps({"auths": {guarded: {"auth": _basic("ada:wrong")}}}))
    wrong = assay(home, "copy", "team/m", target, check=False, **environ)
    (config / "config.json").write_text(json.dumps({"auths": {guarded: {"auth": _basic("ada:secret")}}}))
    assay(home, "copy", "team/m", target, **environ)
    assay(tmp_path / "b", "copy", target, "m", **environ)

    assert (nobody.returncode, wrong.returncode) == (2, 2)
    assert f"docker login {guarded}" in nobody.stderr
    assert "does not accept the credentials" in wrong.stderr
    assert "secret" not in nobody.stderr + wrong.stderr


def _basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_breaks_costs_time_and_nothing_else(
    registry: str, home: Path, tmp_path: Path, seed: int
) -> None:
    name = f"broken/m{seed}"
    with Breaking(registry, seed=seed, share=0.4) as network:
        assay(home, "copy", "team/m", f"oci://{network.address}/{name}:v1", "--stall", 1)
        assay(tmp_path / "b", "copy", f"oci://{network.address}/{name}:v1", "m", "--stall", 1)

    assert network.broken > 0
    assay(tmp_path / "b", "verify", "--all")


def test_copies_that_are_killed_leave_no_tag_and_no_version_before_all_is_there(
    registry: str, home: Path, tmp_path: Path
) -> None:
    moments = random.Random(11)
    rounds = kills(1)
    for number in range(rounds):
        target, back = f"oci://{registry}/killed/m{number}:v1", tmp_path / f"back{number}"
        whole = False
        for attempt in range(3):
            whole = not killed(moments.uniform(0.4, 2.5) * (1 + attempt / 3), home, "copy", "team/m", target)
            found = assay(home, "copy", target, "m", "--dry-run", check=False)
            if found.returncode:  # no such tag yet
                assert "tag" in found.stderr, found.stderr
                assert not whole
            if whole:
                break
        assay(home, "copy", "team/m", target)
        for attempt in range(3):
            if not killed(moments.uniform(0.4, 2.5) * (1 + attempt / 3), back, "copy", target, "m"):
                break
            assay(back, "verify", "--all", check=False)
        assay(back, "copy", target, "m")
        assay(back, "verify", "--all")
        assert len(json.loads(assay(back, "ls", "m", "--json").stdout)["versions"]) == 1


def killed(after: float, home: Path, *arguments: object) -> bool:
    """Start a command and kill it, unless it was faster."""
    command = [sys.executable, "-m", "assay", "--home", str(home), *(str(one) for one in arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(after)
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[1]
            return False
        process.send_signal(signal.SIGKILL)
    return True
