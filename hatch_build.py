"""Compile the kernels of ``assay.packing`` where there is a C compiler, for wheels and for editable installs.

Without one, or where compiling fails, the package is built without them: numpy does the same work, slower. The library
has no part of Python in it (docs/adr/0021-compiled-kernels.md), so that one wheel per platform serves every version.

``python hatch_build.py`` compiles them in place, for work on the C file.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src" / "assay" / "packing" / "_planes.c"
LIBRARY = SOURCE.with_suffix(".so")
FLAGS = ["-O3", "-std=c99", "-fPIC", "-shared", "-fvisibility=hidden"]


def compile_kernels() -> Path | None:
    """The library, compiled anew; None where that is not possible, and then there is none."""
    LIBRARY.unlink(missing_ok=True)
    for command in _compilers():
        with tempfile.TemporaryDirectory(dir=SOURCE.parent) as folder:
            made = Path(folder) / LIBRARY.name
            try:
                done = subprocess.run(
                    [*command, *FLAGS, "-o", str(made), str(SOURCE)], capture_output=True, text=True, check=False
                )
            except OSError as error:
                print(f"{command[0]} cannot be run: {error}", file=sys.stderr)
                continue
            if done.returncode == 0:
                made.replace(LIBRARY)  # whoever has the old one loaded keeps it
                return LIBRARY
            print(done.stderr, file=sys.stderr)
    print("assay is built without compiled kernels: packing will be slower", file=sys.stderr)
    return None


def _compilers() -> list[list[str]]:
    """Command lines to try: what ``CC`` says, else the usual names that are there."""
    if os.environ.get("CC"):
        return [shlex.split(os.environ["CC"])]
    return [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]


def _platform_tag() -> str:
    """The platform that the library was built for, as wheels call it; a Python for two kinds of Mac builds for one."""
    return sysconfig.get_platform().replace("universal2", platform.machine()).replace("-", "_").replace(".", "_")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # compiled by hand
    pass
else:

    class CompiledKernels(BuildHookInterface[Any]):
        """What hatchling calls before it builds a wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            """Add the library to the wheel, and the platform to its name.

            Args:
                version: kind of wheel: ``standard`` or ``editable``.
                build_data: what hatchling will put into it.
            """
            if self.target_name != "wheel":
                return
            library = compile_kernels()
            if library is not None:
                build_data["artifacts"].append(str(library.relative_to(ROOT)))
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{_platform_tag()}"


if __name__ == "__main__":
    sys.exit(0 if compile_kernels() else 1)
