"""Fuzz every parser, the symbolic pickle machine and the audit, each for a stated time: ``make fuzz``.

    python tools/fuzz.py [--seconds 600] [--keep] [TARGET ...]

Guided by coverage (atheris) when ``.venv/fuzz`` has it, else by mutation alone, keeping what has a new outcome. Every
target runs in a process of its own with bounded memory. An input that breaks a promise is written to
``.cache/fuzz/TARGET/broken/`` and does not end the run. ``--keep`` adds one small input for each new outcome to
``tests/fuzz/corpus``, which CI replays. Exit status 1: something broke.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
GUIDED = ROOT / ".venv" / "fuzz" / "bin" / "python"

MEMORY = 3 << 30
"""Address space of one target's process; a parser that wants more breaks its promise."""
SLACK = 5.0
"""By how much an instrumented process may be slower."""
LARGEST = 16 << 10
KEPT_BYTES = 6 << 10
KEPT_FILES = 20
KEPT_LARGEST = 8 << 10


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=600, help="for each target")
    options.add_argument("--keep", action="store_true", help="add inputs with new outcomes to the corpus in tests/fuzz")
    options.add_argument("--unguided", action="store_true", help="do not use atheris")
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("targets", nargs="*", metavar="TARGET")
    chosen = options.parse_args()
    if chosen.child:
        child(chosen.targets[0], chosen.seconds, guided=not chosen.unguided)
        return 0
    from fuzz_seeds import seeds
    from fuzz_targets import targets

    wanted = chosen.targets or list(targets())
    if unknown := sorted(set(wanted) - set(targets())):
        options.error(f"no target {', '.join(unknown)}; there are {', '.join(targets())}")
    guided = GUIDED.exists() and not chosen.unguided
    print(f"{'guided by coverage' if guided else 'by mutation'}, {chosen.seconds} s for each of {len(wanted)} targets")
    inputs = seeds()
    broken = [name for name in wanted if not run(name, chosen.seconds, inputs.get(name, []), guided=guided)]
    if chosen.keep:
        for name in wanted:
            keep(name)
    print(f"broken: {', '.join(broken)}" if broken else "every promise held")
    return 1 if broken else 0


def run(name: str, seconds: int, seeds: list[bytes], *, guided: bool) -> bool:
    """Fuzz one target; whether every promise held."""
    folder = WORK / name
    for sub in ("inputs", "broken"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for old in (folder / "broken").iterdir():
        old.unlink()
    for data in [*seeds, *(file.read_bytes() for file in saved(name))]:
        store(folder / "inputs", data)
    command = [str(GUIDED if guided else sys.executable), __file__, "--child", "--seconds", str(seconds), name]
    ran = subprocess.run(
        [*command, *([] if guided else ["--unguided"])],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds + 300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        cwd=folder,
    )
    output = ran.stdout + ran.stderr
    runs = re.findall(r"(?:Done |#)(\d+)", output)
    coverage = re.findall(r"cov: (\d+)", output)
    reports = sorted((folder / "broken").glob("*.txt"))
    fatal = ran.returncode != 0
    print(
        f"{name:<24}{int(runs[-1]) if runs else 0:>10,} runs{int(coverage[-1]) if coverage else 0:>8,} branches"
        f"{len(list((folder / 'inputs').iterdir())):>7,} inputs{len(reports):>4} broken{'  DIED' if fatal else ''}",
        flush=True,
    )
    for report in reports:
        print(f"    {report.with_suffix('')}: {report.read_text('utf-8').strip().splitlines()[-1][:300]}")
    if fatal:
        print("    " + "\n    ".join(output.strip().splitlines()[-12:]))
    return not reports and not fatal


def child(name: str, seconds: int, *, guided: bool) -> None:
    """Fuzz in this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if not guided:
        from fuzz_targets import check

        mutate(lambda data: guard(lambda: check(name, data), data), seconds)
        return
    import atheris

    with atheris.instrument_imports(include=["assay"]):
        from fuzz_targets import check

    def once(data: bytes) -> None:
        guard(lambda: check(name, data, slack=SLACK), data)

    flags = [f"-max_total_time={seconds}", "-timeout=60", f"-max_len={LARGEST}", "-rss_limit_mb=2560"]
    atheris.Setup([sys.argv[0], "inputs", "-artifact_prefix=broken/", "-print_final_stats=0", *flags], once)
    atheris.Fuzz()


_told: set[str] = set()


def guard(action: Callable[[], str], data: bytes) -> str:
    """Run *action*; what breaks a promise is written down, once for each place it comes from."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not have left
        place = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} {place.filename}:{place.lineno}" + (f" {error}"[:60] if not error.args else "")
        if key not in _told and len(_told) < 100:
            _told.add(key)
            file = store(Path("broken"), data)
            file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), "utf-8")
        return f"broken {key}"


def mutate(once: Callable[[bytes], str], seconds: int) -> None:
    """Without a guide: change inputs at random, and keep those with a new outcome."""
    chance = random.Random(0)
    pool = [file.read_bytes() for file in sorted(Path("inputs").iterdir())] or [b""]
    outcomes = {once(data) for data in pool}
    until = time.monotonic() + seconds
    count = len(pool)
    while time.monotonic() < until:
        data = changed(chance, chance.choice(pool), chance.choice(pool))[:LARGEST]
        outcome = once(data)
        count += 1
        if outcome not in outcomes:
            outcomes.add(outcome)
            pool.append(data)
            store(Path("inputs"), data)
    print(f"Done {count} runs")


_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]


def changed(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """*data* with a few accidents."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(out) + 1)
        length = chance.choice((1, 1, 2, 4, 8, chance.randrange(1, 65)))
        match chance.randrange(7):
            case 0 if out:
                out[at % len(out)] ^= 1 << chance.randrange(8)
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = chance.randbytes(length)
            case 3:
                out[at : at + length] = chance.randbytes(length)
            case 4:
                width = chance.choice((1, 2, 4, 8))
                number = chance.choice(_NUMBERS) & ((1 << 8 * width) - 1)
                out[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
            case 5:
                out[at:at] = out[at : at + length] * chance.choice((1, 2, 100))
            case _:
                start = chance.randrange(len(other) + 1)
                out[at:] = other[start:]
    return bytes(out)


def saved(name: str) -> list[Path]:
    """The corpus of one target, in order."""
    return sorted((CORPUS / name).glob("*"))


def store(folder: Path, data: bytes) -> Path:
    """Write an input under the beginning of its digest."""
    file = folder / hashlib.sha256(data).hexdigest()[:16]
    file.write_bytes(data)
    return file


def keep(name: str) -> None:
    """Add the smallest input for each outcome that the corpus does not have yet, within its bounds."""
    from fuzz_targets import check

    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {check(name, file.read_bytes()) for file in saved(name)}
    taken = sum(file.stat().st_size for file in saved(name))
    for data in _smallest_first(WORK / name / "inputs"):
        if len(saved(name)) >= KEPT_FILES or len(data) > KEPT_LARGEST or taken + len(data) > KEPT_BYTES:
            break
        outcome = guard(lambda data=data: check(name, data), data)  # type: ignore[misc]
        if outcome not in outcomes and not outcome.startswith("broken"):
            outcomes.add(outcome)
            taken += len(data)
            store(folder, data)


def _smallest_first(folder: Path) -> Iterator[bytes]:
    yield from sorted((file.read_bytes() for file in folder.iterdir()), key=lambda data: (len(data), data))


if __name__ == "__main__":
    sys.exit(main())
