"""Programs: machine code, bytecode and scripts, told by their bytes under whatever name they lie."""

from __future__ import annotations

import re
from posixpath import basename

from assay.trees import Tree

_MAGICS = (
    (b"\x7fELF", "a program or shared library for Linux (ELF)"),
    (b"\xfe\xed\xfa\xce", "a program or library for macOS (Mach-O)"),
    (b"\xfe\xed\xfa\xcf", "a program or library for macOS (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "a program or library for macOS (Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a program or library for macOS (Mach-O)"),
    (b"\0asm\x01\0\0\0", "a WebAssembly module"),
    (b"!<arch>\n", "a static library"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"dex\n03", "Android bytecode"),
    (b"\x1bLua", "Lua bytecode"),
    (b"\x1bLJ", "LuaJIT bytecode"),
)
_PYC = range(3000, 4000)
"""Magic numbers of Python 3's bytecode; a carriage return and a line feed follow."""
_SHELL = re.compile(rb"\A(?:\xef\xbb\xbf)?#![ \t]*/?[\w./ -]{2,200}")
_PYTHON = re.compile(
    rb"^(?:import [A-Za-z_][\w.]*(?:[ \t]*(?:,|as\b|;|#).*)?\r?$|from [A-Za-z_.][\w.]* import \S|"
    rb"def \w+\([^\n]{0,200}:|"
    rb"class \w+(?:\(.*\))?:\r?$|exec\(|eval\(|__import__\(|if __name__ ?== ?)",
    re.MULTILINE,
)
_BATCH = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:@echo off|<\?php|<script\b|<%|powershell\b|\$\w+\s*=\s*New-Object)", re.IGNORECASE
)

SOURCE_ENDINGS = tuple(
    ".py .pyi .pyx .pxd .pyw .ipynb .ipy .sh .bash .zsh .fish .csh .ps1 .psm1 .bat .cmd .vbs .js .mjs .cjs .ts "
    ".tsx .jsx .r .jl .lua .pl .pm .rb .php .go .rs .c .cc .cpp .cxx .h .hpp .cu .cuh .cl .metal .java .kt .scala "
    ".swift .m .mm .cs .sql .hs .ml .ex .exs .erl .clj .lisp .scm .f90 .f .asm .s .tcl .awk .mk .cmake .gradle "
    ".groovy .html .htm .vue .css .wgsl .glsl .proto .thrift .rmd .qmd".split()
)
SOURCE_NAMES = frozenset("Makefile Dockerfile Jenkinsfile Rakefile Gemfile Procfile Containerfile Vagrantfile".split())


def program(tree: Tree, path: str) -> str:
    """What kind of program the entry is: machine code or bytecode; empty when it is none."""
    head = tree.head(path)[:64]
    for magic, what in _MAGICS:
        if head.startswith(magic):
            return what
    if head.startswith(b"\xca\xfe\xba\xbe") and len(head) >= 8:
        # Java classes have a version where fat binaries have their number of parts.
        return "a program for macOS (Mach-O)" if int.from_bytes(head[4:8], "big") < 20 else "a Java class"
    if head.startswith(b"MZ"):
        at = int.from_bytes(head[60:64], "little")
        if 64 <= at <= tree.size(path) - 4 and tree.open(path).read(at, 4) == b"PE\0\0":
            return "a program or library for Windows (PE)"
        if tree.head(path)[2:].count(b"\0") > 8:
            return "a program for DOS or Windows"
    if head[2:4] == b"\r\n" and int.from_bytes(head[:2], "little") in _PYC and head[4:8] in _FLAGS:
        return "bytecode of Python"
    return ""


_FLAGS = (b"\0\0\0\0", b"\1\0\0\0", b"\3\0\0\0")


def script(data: bytes) -> str:
    """What kind of script a text begins as; empty when it does not look like one."""
    if _SHELL.match(data):
        return "a script that the system can run"
    if _BATCH.match(data):
        return "a script"
    if len(_PYTHON.findall(data[:65536])) >= 1 and _looks_like_python(data[:65536]):
        return "Python source"
    return ""


def _looks_like_python(data: bytes) -> bool:
    """Whether most lines that say something read as Python, so that prose with an example in it does not."""
    lines = [line for line in data.splitlines()[:200] if line.strip()]
    coded = [
        line
        for line in lines
        if line[:1] in (b" ", b"\t", b"#", b"@", b")", b"]", b"}", b'"', b"'") or _STATEMENT.match(line[:200].rstrip())
    ]
    return len(coded) * 10 >= len(lines) * 8 and not data.lstrip().startswith((b"# ", b"---\n", b"```"))


_STATEMENT = re.compile(
    rb"(?:import|from|def|class|if|elif|else|for|while|try|except|finally|with|return|raise|assert|pass|del|global|"
    rb"async|await|exec|eval|print|__import__)\b|[A-Za-z_][\w.\[\]'\", ]*\s*[-+*/|&]?=|[A-Za-z_][\w.]*\(.*\)"
)


def is_source(path: str) -> bool:
    """Whether an entry is named as source code."""
    name = basename(path)
    return name.lower().endswith(SOURCE_ENDINGS) or name in SOURCE_NAMES
