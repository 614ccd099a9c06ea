"""Pickle streams put together opcode by opcode: inert, whatever they name, because nobody ever unpickles them."""

from __future__ import annotations

import io
import zipfile

PROTO = b"\x80\x04"
STOP = b"."


def text(value: str) -> bytes:
    """A text on the stack."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data


def name(module: str, attribute: str) -> bytes:
    """A global by STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def old(module: str, attribute: str) -> bytes:
    """A global by GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def stream(*parts: bytes) -> bytes:
    """A stream of protocol 4."""
    return PROTO + b"".join(parts) + STOP


def called(module: str, attribute: str, *args: bytes) -> bytes:
    """A call by REDUCE."""
    return name(module, attribute) + b"(" + b"".join(args) + b"tR"


RUN = called("os", "system", text("true"))
"""The classic."""


def torch_zip(pickle: bytes, **members: bytes) -> bytes:
    """What ``torch.save`` writes around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        everything = {"data.pkl": pickle, "byteorder": b"little", **members, "version": b"3\n"}
        for member, data in everything.items():
            archive.writestr(f"archive/{member}", data)
    return out.getvalue()


def storage(kind: bytes, size: int = 4) -> bytes:
    """A torch storage as a persistent id."""
    return b"(" + text("storage") + kind + text("0") + text("cpu") + b"K" + bytes([size]) + b"tQ"


def dtype(code: str, flags: int, order: str = "|") -> bytes:
    """A ``numpy.dtype`` with its state."""
    made = name("numpy", "dtype") + text(code) + b"\x89\x88\x87R"
    return made + b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + bytes([flags]) + b"tb"


def array(kind: bytes, data: bytes) -> bytes:
    """A ``numpy.ndarray`` of one element."""
    made = called("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"K\0\x85", b"C\x01b")
    return made + b"(K\x01K\x01\x85" + kind + b"\x89" + data + b"tb"


HOSTILE: dict[str, bytes] = {
    "global, reduce": stream(RUN),
    "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": stream(b"(", name("os", "system"), text("true"), b"o"),
    "newobj": stream(name("subprocess", "Popen"), text("true"), b"\x85\x81"),
    "newobj with keywords": stream(name("subprocess", "Popen"), b")", b"}", text("args"), text("true"), b"s", b"\x92"),
    "bare global": stream(name("evil", "thing"), b"0N"),
    "computed name": stream(text("os"), called("builtins", "str", text("system")), b"\x93"),
    "extension code": stream(b"\x82\x01", b")R"),
    "dotted name": stream(name("torch.serialization", "os.system"), text("true"), b"\x85R"),
    "name that is not ASCII": stream(name("os\uff0epath", "x")),
    "result thrown away": stream(RUN, b"0N"),
    "behind a mark": stream(b"(", RUN, b"1N"),
    "memo swapped": stream(name("collections", "OrderedDict"), b"q\0", name("os", "system"), b"q\0", b"0h\0", text("a"), b"\x85R"),
    "memo gap": stream(name("os", "system"), b"r\xff\xff\0\0", b"0", b"j\xff\xff\0\0", text("a"), b"\x85R"),
    "memoize counts entries": stream(b"K\x01q\x05", name("os", "system"), b"\x94", b"0h\x01", text("a"), b"\x85R"),
    "duplicated": stream(name("os", "system"), b"2", text("a"), b"\x85R"),
    "build on a global": stream(name("numpy", "ndarray"), b"}", text("x"), b"K\1s", b"b"),
    "build twice": stream(
        name("sklearn.svm._classes", "SVC"), b")\x81", b"}", text("a"), b"K\1sb", b"}", text("b"), b"K\1sb"
    ),
    "setstate shadowed": stream(
        name("sklearn.svm._classes", "SVC"), b")\x81", b"}", text("__setstate__"), name("numpy", "sum"), b"sb"
    ),
    "class replaced by slots": stream(
        name("sklearn.svm._classes", "SVC"), b")\x81", b"N}", text("__class__"), name("numpy", "ndarray"), b"s\x86b"
    ),
    "append to a foreign object": stream(name("evil", "List"), b")\x81", text("a"), b"a"),
    "items set in a tensor": stream(
        called("torch._utils", "_rebuild_sparse_tensor", b"N", b"N"), b"K\0", b"K\1", b"s"
    ),
    "map": stream(called("builtins", "map", name("os", "system"), b"]" + text("true") + b"a")),
    "partial": stream(called("functools", "partial", name("os", "system"))),
    "partial calls a helper": stream(called("functools", "partial", name("torch.storage", "_load_from_bytes"))),
    "partial of another function": stream(
        called("functools", "partial", name("numpy", "sum")), b"(", name("os", "system"), b")}Nt", b"b"
    ),
    "result called": stream(called("functools", "partial", name("numpy", "sum")), text("x"), b"\x85R"),
    "factory": stream(called("collections", "defaultdict", name("torch.storage", "_load_from_bytes"))),
    "value called": stream(called("numpy", "sum", b"K\1")),
    "constructor run": stream(called("sklearn.svm._classes", "SVC", b"K\1")),
    "getattr": stream(called("builtins", "getattr", name("numpy", "ndarray"), text("tofile"))),
    "methodcaller": stream(called("operator", "methodcaller", text("system"), text("true"))),
    "attribute getter of dunders": stream(called("operator", "attrgetter", text("__globals__"))),
    "memmap": stream(called("numpy", "memmap", text("/tmp/x"))),
    "ufunc by a foreign name": stream(called("numpy._core", "_ufunc_reconstruct", text("os"), text("system"))),
    "codec": stream(called("_codecs", "encode", text("x"), text("zip_codec"))),
    "length as bytes": stream(called("builtins", "bytearray", b"J\0\0\0\x7f")),
    "huge empty array": stream(
        called("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"J\0\0\0\x7f\x85", b"C\x01b")
    ),
    "objects from raw bytes": stream(array(dtype("O8", 0), b"C\x08AAAAAAAA")),
    "power of ten": stream(called("fractions", "Fraction", text("1e999999999"))),
    "nested torch file": stream(called("torch.storage", "_load_from_bytes", b"B" + len(stream(RUN)).to_bytes(4, "little") + stream(RUN))),
    "nested pickle": stream(called("pickle", "loads", b"C\x04\x80\x04N.")),
    "persistent id": stream(text("x"), b"Q"),
    "memo doubling": stream(b"]q\0", b"".join(b"]q%c(h%ch%ce" % (at + 1, at, at) for at in range(8, 60)) if 0 else b"",
                            b"".join(b"h%ch%c\x86q%c" % (at, at, at + 1) for at in range(60))),
    "deep nesting": stream(b"]" + b"\x85" * 20_000),
    "deep key": stream(b"}", b")" + b"\x85" * 200, b"N", b"s"),
    "broken after the call": PROTO + RUN + b"\xff",
    "cut after the call": PROTO + RUN,
    "no protocol": RUN + STOP,
    "protocol in mid-stream": stream(b"N0", PROTO, RUN),
    "lying frame": PROTO + b"\x95" + (1 << 40).to_bytes(8, "little") + RUN + STOP,
    "second pickle": stream(b"N") + stream(RUN),
    "call behind a number in base 16": b"I0x1\n0cos\nsystem\n(S'a'\ntR.",
    "string that is not ASCII": b"S'\xff'\n0cos\nsystem\n(S'a'\ntR.",
}  # fmt: skip
"""What a stream does, in a few words, to the stream."""

BYPASSES = [
    "pip.main", "asyncio.unix_events._UnixSubprocessTransport._start", "logging.FileHandler", "uuid._get_command_stdout",
    "imaplib.IMAP4_stream", "_osx_support._read_output", "_aix_support._read_cmd_output", "_pyrepl.pager.pipe_pager",
    "test.support.script_helper.assert_python_ok", "pkgutil.resolve_name", "runpy.run_path", "cProfile.run", "profile.run",
    "ctypes.CDLL", "pydoc.pipepager", "timeit.timeit", "bdb.Bdb", "code.InteractiveInterpreter", "doctest.debug_script",
    "idlelib.run.Executive", "ensurepip._run_pip", "lib2to3.pgen2.grammar.Grammar", "numpy.f2py.crackfortran.getlincoef",
    "numpy.testing._private.utils.runstring", "torch.utils.collect_env.run", "torch.jit.unsupported_tensor_ops.execWrapper",
    "torch._inductor.codecache.compile_file", "torch.distributed.rpc.server_process_global_profile", "torch.hub.load",
    "torch.load", "distutils.file_util.write_file", "shutil.rmtree", "webbrowser.open", "http.client.HTTPSConnection",
    "urllib.request.urlopen", "socket.create_connection", "smtplib.SMTP", "marshal.loads", "types.CodeType",
    "multiprocessing.util.spawnv_passfds", "site.execsitecustomize", "linecache.getlines", "io.open", "builtins.open",
    "cloudpickle.loads", "dill.loads", "joblib.load", "numpy.load", "pandas.read_pickle", "pandas.eval", "chemprop.models.MPN",
]  # fmt: skip
"""Names by which scanners were passed, or that nobody can know."""
