"""Dotted names in settings, as what they would make a reader import and call.

Settings that name a class ask whoever reads them to import its module and to call it. A few families of classes are
known to do nothing but compute; a few modules are known to do everything; of the rest nobody can say.
"""

from __future__ import annotations

import re

from assay.spec.finding import Severity

_HARMLESS = re.compile(
    r"torch\.nn\.(?:modules\.(?:\w+\.)?|parameter\.|utils\.parametrizations\.)?[A-Z]\w*"
    r"|torch\.nn\.functional\.[a-z]\w*"
    r"|torch\.optim\.(?:\w+\.)?[A-Z]\w*"
    r"|torch\.(?:float|bfloat|int|uint)\d+|torch\.(?:Tensor|Size|device|dtype)"
    r"|torchmetrics\.(?:\w+\.)*[A-Z]\w*"
    r"|torchvision\.transforms\.(?:\w+\.)*[A-Z]\w*"
    r"|nemo\.(?:collections|core)\.(?:[a-z]\w*\.)+[A-Z]\w*"
    r"|(?:pytorch_lightning|lightning\.pytorch|lightning\.fabric)\.(?:callbacks\.(?:\w+\.)?[A-Z]\w*|Trainer)"
    r"|(?:transformers|diffusers|sentence_transformers|speechbrain)\.(?:[a-z]\w*\.)*[A-Z]\w*"
    r"|builtins\.(?:int|float|str|bool|list|dict|tuple|set)|collections\.OrderedDict",
    re.ASCII,
)
_DANGEROUS = frozenset(
    "os posix nt posixpath ntpath subprocess sys builtins __builtin__ __builtins__ importlib imp runpy pty shutil "
    "socket pickle _pickle cPickle dill cloudpickle joblib marshal shelve ctypes cffi code codeop commands popen2 "
    "webbrowser urllib urllib2 urllib3 http requests httpx aiohttp ftplib smtplib telnetlib xmlrpc socketserver "
    "asyncio multiprocessing threading _thread signal pip setuptools distutils pkgutil site types inspect gc "
    "atexit pdb bdb timeit trace cProfile profile doctest unittest test idlelib zipimport zipapp venv ensurepip "
    "lib2to3 operator functools pydoc platform tempfile pathlib glob io _io fileinput linecache ast dis "
    "sched concurrent antigravity this turtle tkinter sqlite3 ssl nturl2path uuid hydra".split()
)
_DANGEROUS_NAMES = frozenset(
    "eval exec compile __import__ open input getattr system popen torch.load torch.hub.load torch.jit.load "
    "numpy.load torch.ops.load_library torch.classes.load_library torch.utils.cpp_extension.load "
    "pandas.read_pickle pandas.read_csv numpy.fromfile numpy.memmap numpy.loadtxt numpy.genfromtxt yaml.load "
    "yaml.unsafe_load".split()
)
_DOTTED = re.compile(r"[^\W\d]\w*(?:[.:][^\W\d]\w*)*")


def weigh_name(target: str) -> Severity | None:
    """What calling *target* can do: run anything, nobody knows, or (None) nothing but compute."""
    name = target.strip().replace(":", ".")
    if _HARMLESS.fullmatch(name):
        return None
    return Severity.EXECUTE if is_dangerous(target) or not _DOTTED.fullmatch(name) else Severity.INCOMPLETE


def is_dangerous(target: str) -> bool:
    """Whether *target* is a dotted name of something known to reach processes, files, the network or Python itself."""
    name = target.strip().replace(":", ".")
    if not _DOTTED.fullmatch(name):
        return False
    return name in _DANGEROUS_NAMES or ("." in name and name.partition(".")[0] in _DANGEROUS)
