"""Requirements files: what pip would be told to do besides installing distributions by their names.

A requirements file is a small language: besides distributions it can add package indexes, pull in other files, build
from folders and install from any address. Loading a model installs nothing by itself; servers of models do.

Source: pip documentation, "Requirements File Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from assay.containers.locations import escaping
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

MAX_BYTES = 1 << 20
MAX_LINES = 5000
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(
    _NAME + r"\s*(?:\[[A-Za-z0-9._,\s-]{0,200}\])?\s*(?:[<>=!~;(][^@]*|@\s*\S.*)?",
    re.ASCII,
)
_NETWORK = ("-i", "-f", "--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--proxy")
_READ = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_FRAMEWORK_INDEX = re.compile(r"(?:--extra-index-url|--find-links|-f)[\s=]+https://download\.pytorch\.org/\S*")
"""The one address beside the usual one that honest requirements name all the time: that of PyTorch's own builds."""
FILE = re.compile(r"(?:.*[-_])?requirements(?:[-_.].*)?\.(?:txt|in)|constraints\.txt")


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Args:
        text: the requirement or option, logins left out.
        requirement: whether it is a requirement that pip understands.
        trouble: what it does besides naming a distribution, ``option``, ``url``, ``path``, or empty.
        message: of the trouble.
        remote: whether the trouble makes pip go to another address.
        local: whether it makes pip read another file.
    """

    text: str
    requirement: bool = False
    trouble: str = ""
    message: str = ""
    remote: bool = False
    local: bool = False


def read_lines(text: str) -> Iterator[Line]:
    """The lines of a requirements file that say something, at most ``MAX_LINES`` of them."""
    for raw in text.replace("\\\n", " ").splitlines()[:MAX_LINES]:
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        if line.startswith("-"):
            yield _option(line)
        elif line:
            yield _requirement(line.split(" --", 1)[0].strip()[:1000])


def _option(line: str) -> Line:
    name, shown = re.split(r"[\s=]", line, maxsplit=1)[0], without_login(line)
    if _FRAMEWORK_INDEX.fullmatch(line):
        return Line(shown, trouble="option", message="pip is told to look at PyTorch's own builds, too")
    if "://" in line or _is(name, _NETWORK):
        message = "pip is told to take packages from another address"
        return Line(shown, trouble="option", message=message, remote=True)
    if _is(name, _READ):
        return Line(shown, trouble="option", message="pip is told to read another file", local=True)
    return Line(shown, trouble="option", message="pip is given an option")


def _is(name: str, options: tuple[str, ...]) -> bool:
    """Whether pip takes *name* for one of *options*; long ones may be shortened, short ones run into their value."""
    if name.startswith("--"):
        return any(option.startswith(name) for option in options)
    return name[:2] in options


def _requirement(line: str) -> Line:
    shown, plain = without_login(line), bool(_REQUIREMENT.fullmatch(line))
    if "://" in line:
        message = "a requirement is installed from an address"
        return Line(shown, requirement=plain, trouble="url", message=message, remote=True)
    if plain:
        return Line(shown, requirement=True)
    return Line(shown, trouble="path", message="a requirement is not a distribution's name", local=True)


def without_login(text: str) -> str:
    """*text* without the login in its address."""
    return _CREDENTIALS.sub("//…@", text)


def judge_requirements(tree: Tree, path: str) -> list[Finding]:
    """What a requirements file that no format describes would make pip do."""
    text = tree.open(path).read(0, MAX_BYTES).decode("utf-8-sig", "replace")
    found = [_finding(line, path) for line in read_lines(text) if line.trouble]
    if tree.size(path) > MAX_BYTES or text.count("\n") > MAX_LINES:
        message = f"longer than {MAX_BYTES:,} bytes or {MAX_LINES:,} lines"
        found.append(Finding("requirements-too-long", Severity.INCOMPLETE, message, path))
    return found


def _finding(line: Line, path: str) -> Finding:
    effect = "fetch packages from an address the artifact names, once they are installed"
    if line.trouble == "option":
        outside = line.local and escaping(re.split(r"[\s=]+", line.text)[-1])
        severity = Severity.NETWORK if line.remote else Severity.READ if outside else Severity.NOTE
        return Finding("requirements-option", severity, line.message, path, None, line.text[:200], effect)
    if line.trouble == "url":
        return Finding("requirements-url", Severity.NETWORK, line.message, path, None, line.text[:200], effect)
    # A folder or a word that is no requirement is for whoever installs, and stops them.
    return Finding("requirements-path", Severity.NOTE, line.message, path, None, line.text[:200])
