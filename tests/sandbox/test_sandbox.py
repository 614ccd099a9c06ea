"""The sandbox: programs that really try to get out."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from assay.sandbox.running import MECHANISMS, run
from assay.sandbox.values import End, Isolation, Limits, Outcome

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


def _works(mechanism: str, tmp: Path) -> bool:
    if mechanism == "bubblewrap" and shutil.which("bwrap") is None:
        return False
    outcome = run([sys.executable, "-I", "-c", ""], readable=[], writable=tmp, mechanism=mechanism)
    return outcome.ok and outcome.isolation.mechanism in (mechanism, "seccomp")


@pytest.fixture(params=MECHANISMS)
def mechanism(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if not _works(request.param, tmp_path):
        pytest.skip(f"{request.param} does not work on this machine")
    return str(request.param)


@pytest.fixture
def isolated(tmp_path: Path) -> str:
    """A mechanism that isolates fully."""
    for mechanism in ("namespaces", "bubblewrap"):
        if _works(mechanism, tmp_path):
            return mechanism
    pytest.skip("this machine allows no namespaces")


def _run(code: str, folder: Path, mechanism: str, limits: Limits | None = None, **options) -> Outcome:
    folder.mkdir(exist_ok=True)
    return run(
        [sys.executable, "-I", "-c", code],
        readable=options.pop("readable", []),
        writable=folder,
        limits=limits or Limits(seconds=30),
        mechanism=mechanism,
        **options,
    )


def test_a_program_runs_and_says_how_it_ended(tmp_path: Path, mechanism: str) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    outcome = _run(code, tmp_path / "w", mechanism)

    assert (outcome.exit, outcome.ended, outcome.stdout, outcome.stderr) == (3, End.EXIT, b"out\n", b"err\n")
    assert outcome.seconds > 0
    assert outcome.peak_memory > 1 << 20


def test_a_signal_that_ends_it_shows_in_the_status(tmp_path: Path, mechanism: str) -> None:
    outcome = _run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path / "w", mechanism)

    assert outcome.exit == 128 + 11


def test_there_is_no_network(tmp_path: Path, mechanism: str) -> None:
    code = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, ("192.0.2.1", 80))):
    try:
        with socket.socket(family) as one:
            one.settimeout(3)
            one.connect(address)
    except OSError as error:
        print(error.errno)
    else:
        print("connected")
"""
    outcome = _run(code, tmp_path / "w", mechanism)

    assert outcome.isolation.network
    # Not permitted, unreachable, or refused by a loopback that has nobody else on it.
    assert set(outcome.stdout.split()) <= {b"1", b"101", b"111", b"100"}


def test_a_server_of_this_machine_cannot_be_reached(tmp_path: Path, mechanism: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3); print('reached')"
        outcome = _run(code, tmp_path / "w", mechanism)

    assert not outcome.ok
    assert b"reached" not in outcome.stdout


def test_the_home_is_empty_and_the_real_one_is_not_there(tmp_path: Path, isolated: str) -> None:
    secret = Path.home() / ".assay-sandbox-test"
    secret.write_text("secret")
    try:
        code = f"import os; print(os.listdir(os.path.expanduser('~')), os.path.exists({str(secret)!r}))"
        outcome = _run(code, tmp_path / "w", isolated)
    finally:
        secret.unlink()

    assert outcome.stdout == b"[] False\n"
    assert outcome.isolation.home


def test_only_its_own_folder_can_be_written(tmp_path: Path, isolated: str) -> None:
    outside, given = tmp_path / "outside", tmp_path / "given"
    for folder in (outside, given):
        folder.mkdir()
        (folder / "file").write_text("text")
    code = f"""
import os
for path in ({str(given / "new")!r}, {str(given / "file")!r}, "/usr/new", "/new", "/dev/new", {str(outside / "new")!r}):
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
print(open({str(given / "file")!r}).read(), os.path.exists({str(outside)!r}))
open("mine", "w").write("kept")
"""
    outcome = _run(code, tmp_path / "w", isolated, readable=[given])

    assert outcome.stdout == b"text False\n"
    assert (tmp_path / "w" / "mine").read_text() == "kept"
    assert outcome.isolation == Isolation(isolated, network=True, files=True, home=True, resources=True)
    assert outcome.isolation.complete
    assert outcome.isolation.missing == ()


def test_files_that_only_their_owner_may_read_are_read(tmp_path: Path, mechanism: str) -> None:
    given = tmp_path / "given"
    given.write_text("private")
    given.chmod(0o400)
    outcome = _run(f"print(open({str(given)!r}).read())", tmp_path / "w", mechanism, readable=[given])

    assert outcome.stdout == b"private\n"


def test_variables_of_the_environment_are_not_passed_on(
    tmp_path: Path, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    code = "import os; print(sorted(os.environ.items()))"
    outcome = _run(code, tmp_path / "w", mechanism, environment={"WANTED": "yes"})

    assert b"SECRET_TOKEN" not in outcome.stdout
    assert b"('WANTED', 'yes')" in outcome.stdout


def test_other_processes_cannot_be_seen_or_killed(tmp_path: Path, isolated: str) -> None:
    code = f"import os, signal; print([p for p in os.listdir('/proc') if p.isdigit()]); os.kill({os.getpid()}, 0)"
    outcome = _run(code, tmp_path / "w", isolated)

    assert b"ProcessLookupError" in outcome.stderr
    assert len(outcome.stdout.split(b",")) <= 4


def test_memory_is_limited(tmp_path: Path, mechanism: str) -> None:
    code = "x = []\nwhile True: x.append(bytearray(20 << 20))"
    outcome = _run(code, tmp_path / "w", mechanism, Limits(seconds=60, memory=300 << 20))

    assert not outcome.ok
    assert outcome.ended is End.MEMORY or b"MemoryError" in outcome.stderr
    assert outcome.peak_memory < 400 << 20


def test_memory_of_several_processes_is_counted_together(tmp_path: Path, isolated: str) -> None:
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        x = b"1" * (100 << 20)
        time.sleep(30)
        os._exit(0)
time.sleep(30)
"""
    outcome = _run(code, tmp_path / "w", isolated, Limits(seconds=60, memory=300 << 20))

    assert outcome.ended is End.MEMORY


def test_time_is_limited_and_children_die_too(tmp_path: Path, mechanism: str) -> None:
    code = """
import fcntl, os, time
held = open("held", "w")
fcntl.flock(held, fcntl.LOCK_EX)  # until the last of them is gone
if os.fork() == 0:
    os.setsid()
    os.fork()
time.sleep(60)
"""
    outcome = _run(code, tmp_path / "w", mechanism, Limits(seconds=1.5))

    assert outcome.ended is End.TIME
    assert outcome.exit == 137
    with (tmp_path / "w/held").open("a") as held:
        for _ in range(200):
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.05)
        else:
            pytest.fail("some of them live on")


def test_processes_are_limited(tmp_path: Path, isolated: str) -> None:
    code = """
import os, time
count = 0
for _ in range(100):
    try:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
        count += 1
    except OSError:
        break
print(count)
"""
    outcome = _run(code, tmp_path / "w", isolated, Limits(seconds=20, processes=20))

    assert outcome.ended is End.PROCESSES or int(outcome.stdout) <= 20


def test_what_it_writes_is_limited(tmp_path: Path, mechanism: str) -> None:
    limits = Limits(seconds=30, file_size=1 << 20, output=1 << 16)
    large = _run("open('big', 'wb').write(bytes(2 << 20))", tmp_path / "w", mechanism, limits)
    loud = _run("while True: print('x' * 1000)", tmp_path / "w", mechanism, limits)

    assert not large.ok
    assert (tmp_path / "w" / "big").stat().st_size <= 1 << 20
    assert loud.ended is End.OUTPUT
    assert len(loud.stdout) == 1 << 16


def test_without_namespaces_it_is_said_what_was_not_enforced(tmp_path: Path) -> None:
    outcome = _run("", tmp_path / "w", "none")

    assert outcome.ok
    assert not outcome.isolation.complete
    assert "files of the system were visible" in outcome.isolation.missing
    assert outcome.isolation.to_json()["files"] is False


def test_a_program_that_is_not_there_ends_with_126(tmp_path: Path, mechanism: str) -> None:
    outcome = run(["/nowhere/program"], readable=[], writable=tmp_path, mechanism=mechanism)

    assert outcome.exit == 126
    assert b"cannot start /nowhere/program" in outcome.stderr
