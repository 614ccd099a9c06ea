"""The first thing that runs in a sandboxed process: it shuts the doors behind itself, then becomes what was asked for.

Run as a script by an isolated interpreter, so it uses the standard library only and imports nothing of ``assay``. What
could really be shut is written as JSON to a pipe; a door that the kernel does not let us shut is said to be open, never
an error. Layout and order of the mounts follow what ``bubblewrap`` does.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import struct
import sys
from typing import Any, NoReturn

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_SET_PDEATHSIG, _SET_KEEPCAPS, _SET_SECCOMP, _CAPBSET_DROP, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = (
    1,
    8,
    22,
    24,
    36,
    38,
)
_CAP_AMBIENT, _AMBIENT_RAISE = 47, 2
_NOBODY = 65534
_OPEN_ANY = (1, 2)
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, held in the namespace only.
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_LAST_CAPABILITY = 63
_DEVICES = ("null", "zero", "full", "random", "urandom")
# Per machine: audit architecture, and the numbers of pivot_root, socket and io_uring_setup.
_MACHINES = {"x86_64": (0xC000003E, 155, 41, 425), "aarch64": (0xC00000B7, 41, 198, 425)}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Do what the JSON in the first argument says."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    said: dict[str, Any] = {}
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if spec["mode"] != "inner" and os.getppid() == 1 and spec["parent"] != 1:  # whoever wanted us is gone
        os._exit(125)
    if spec["mode"] == "namespaces" and _unshare(said):
        _within_namespaces(spec, said)
    _supervise(spec, said, spec["mode"] == "inner")


def _within_namespaces(spec: dict[str, Any], said: dict[str, Any]) -> NoReturn:
    """Become the first process of the new process namespace; what is outside waits for it."""
    first = os.fork()
    if first:
        _pass_on(spec, first)
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _mounts(spec)
        said["files"] = True
    except OSError as error:
        said["files_error"] = str(error)
    _supervise(spec, said, inside=True)


def _supervise(spec: dict[str, Any], said: dict[str, Any], inside: bool) -> NoReturn:  # noqa: FBT001 - internal
    """Start the program itself, and end with it; orphans are ours."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    program = os.fork()
    if program:
        _pass_on(spec, program)
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    said["resources"] = _limit(spec["limits"], own_users=inside) and (os.geteuid() != 0 or bool(said.get("nobody")))
    _drop_privileges(nobody=bool(said.get("nobody")))
    if not said.get("network") and spec["mode"] != "inner":
        said["network"] = said["seccomp"] = _without_sockets()
    _report(spec, said)
    os.close(spec["status"])
    try:
        os.chdir(spec["folder"])
        os.execve(spec["arguments"][0], spec["arguments"], spec["environment"])  # noqa: S606 - that is our purpose
    except OSError as error:
        sys.stderr.write(f"cannot start {spec['arguments'][0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(126)


def _pass_on(spec: dict[str, Any], child: int) -> NoReturn:
    """Wait for *child* and end as it did, reaping orphans meanwhile."""
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(stream)
    while True:
        pid, state, usage = os.wait4(-1, 0)
        if pid == child:
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            with contextlib.suppress(OSError):
                _report(spec, {"peak": peak})
            code = os.waitstatus_to_exitcode(state)
            os._exit(code if code >= 0 else 128 - code)


def _report(spec: dict[str, Any], said: dict[str, Any]) -> None:
    os.write(spec["status"], json.dumps(said).encode() + b"\n")


def _unshare(said: dict[str, Any]) -> bool:
    """Leave the namespaces of the system: users, mounts, network, processes and messages."""
    if not hasattr(_libc, "unshare"):
        return False
    ready, go = os.pipe()
    helper = os.fork()
    if not helper:
        _map_from_outside(ready, go)
    os.close(ready)
    user, group = os.geteuid(), os.getegid()
    done = _libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWPID) == 0
    if not done:
        said["namespaces_error"] = os.strerror(ctypes.get_errno())
    os.write(go, b"1" if done and user == 0 else b"0")
    os.close(go)
    _, state = os.waitpid(helper, 0)
    if not done:
        return False
    said["network"] = said["namespaces"] = True
    # Of root the kernel does not count processes: root becomes nobody, who may read what root may, in here.
    said["nobody"] = user == 0 and state == 0
    if not said["nobody"]:
        try:
            with contextlib.suppress(FileNotFoundError):
                _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{user} {user} 1")
            _write("/proc/self/gid_map", f"{group} {group} 1")
        except OSError as error:
            said["namespaces_error"] = str(error)
    return True


def _map_from_outside(ready: int, go: int) -> NoReturn:
    """Map every user and group of the system into our parent's new namespace, which only root outside of it can."""
    os.close(go)
    code = 1
    if os.read(ready, 1) == b"1":
        with contextlib.suppress(OSError):
            for kind in ("uid_map", "gid_map"):
                with open(f"/proc/self/{kind}", encoding="ascii") as file:
                    lines = [line.split() for line in file]
                _write(f"/proc/{os.getppid()}/{kind}", "".join(f"{a} {a} {count}\n" for a, _, count in lines))
            code = 0
    os._exit(code)


def _write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _mounts(spec: dict[str, Any]) -> None:
    """Make a root of our own, with nothing in it but what was given, and go there."""
    root: str = spec["root"]
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
    for link, target in spec["links"]:
        os.symlink(target, root + link)
    for path in spec["readable"]:
        _bind(path, root, writable=False)
    _processes(root)
    _devices(root)
    for path in spec["writable"]:
        _bind(path, root, writable=True)
    old = f"{root}/.old"
    os.mkdir(old)
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(0, "unknown machine")
    if _libc.syscall(machine[1], root.encode(), old.encode()) != 0:
        raise _failed("pivot_root")
    os.chdir("/")
    if _libc.umount2(b"/.old", _DETACH) != 0:
        raise _failed("umount")
    os.rmdir("/.old")
    _mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def _bind(path: str, root: str, *, writable: bool) -> None:
    target = root + path
    if stat.S_ISDIR(os.stat(path).st_mode):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    _mount(path, target, None, _BIND | _REC)
    if not writable:
        _read_only(target)


def _read_only(target: str) -> None:
    """Make a mount and everything below it read-only."""
    attributes = struct.pack("QQQQ", _RDONLY | _NOSUID, 0, 0, 0)
    done = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    if done != 0:
        flags = os.statvfs(target).f_flag & 0xF  # what was locked must be kept: nosuid, nodev, noexec
        _mount(None, target, None, _REMOUNT | _BIND | _RDONLY | flags)


def _processes(root: str) -> None:
    """The processes of this namespace only; where the system does not allow it, none."""
    os.mkdir(f"{root}/proc")
    with contextlib.suppress(OSError):
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | 8)


def _devices(root: str) -> None:
    os.mkdir(f"{root}/dev")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            _mount(f"/dev/{name}", f"{root}/dev/{name}", None, _BIND)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, "size=256m")


def _limit(limits: dict[str, int], *, own_users: bool) -> bool:
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": limits["cpu_seconds"],
        "RLIMIT_FSIZE": limits["file_size"],
        "RLIMIT_NOFILE": limits["files"],
        # Private memory, mapped or not; elsewhere than on Linux it does not count maps.
        "RLIMIT_DATA" if sys.platform == "linux" else "RLIMIT_AS": limits["memory"],
    }
    if own_users:
        wanted["RLIMIT_NPROC"] = limits["processes"]
    elif sys.platform == "linux":  # it counts everything this person runs
        owner = os.geteuid()
        running = sum(1 for name in os.listdir("/proc") if name.isdigit() and _owner(f"/proc/{name}") == owner)
        wanted["RLIMIT_NPROC"] = 2 * running + limits["processes"]
    done = True
    for name, value in wanted.items():
        try:
            number = getattr(resource, name)
            _, hard = resource.getrlimit(number)
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (most, most))
        except (OSError, ValueError, AttributeError):
            done = False
    return done


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def _drop_privileges(*, nobody: bool) -> None:
    """Give up what root may; as *nobody* keep the right to open the files that were given, whoever owns them."""
    _prctl(_SET_NO_NEW_PRIVS, 1)
    if sys.platform != "linux":
        return
    kept = sum(1 << capability for capability in _OPEN_ANY) if nobody else 0
    for capability in range(_LAST_CAPABILITY):
        if not kept >> capability & 1:
            _prctl(_CAPBSET_DROP, capability)
    if nobody:
        _prctl(_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    number = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine)
    if number is not None:
        # Version 3 of the header, for this process: effective, permitted and inheritable sets, low words first.
        _libc.syscall(number, struct.pack("Ii", 0x20080522, 0), struct.pack("6I", kept, kept, kept, 0, 0, 0))
    for capability in _OPEN_ANY if nobody else ():
        _libc.prctl(_CAP_AMBIENT, _AMBIENT_RAISE, capability, 0, 0)
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def _without_sockets() -> bool:
    """Let the kernel refuse to make sockets; for when there is no network namespace."""
    machine = _MACHINES.get(os.uname().machine) if sys.platform == "linux" else None
    if machine is None:
        return False
    architecture, _, socket, ring = machine
    refuse = (0x06, 0, 0, 0x00050000 | 1)  # errno EPERM
    allow = (0x06, 0, 0, 0x7FFF0000)
    # Load the architecture, then the number; numbers of the other ABI of x86-64 are refused as well.
    program = [
        (0x20, 0, 0, 4),
        (0x15, 0, 4, architecture),
        (0x20, 0, 0, 0),
        (0x35, 2, 0, 0x40000000),
        (0x15, 1, 0, socket),
        (0x15, 0, 1, ring),
        refuse,
        allow,
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    mode_filter = 2
    return bool(_libc.prctl(_SET_SECCOMP, mode_filter, header, 0, 0) == 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    def raw(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    if _libc.mount(raw(source), raw(target), raw(kind), ctypes.c_ulong(flags), raw(data)) != 0:
        raise _failed(f"mount {target}")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
