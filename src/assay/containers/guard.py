"""The seam where parser bugs stop: whatever a parser does on hostile bytes, only our errors leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from assay.errors import AssayError, BadFormat


@contextmanager
def guarded(what: str, path: str = "") -> Iterator[None]:
    """Turn the exceptions that malformed bytes provoke in parsing code into ``BadFormat``.

    A parser should raise ``BadFormat`` itself where it can say what was expected; this is the safety net for the places
    where Python's own decoding, indexing and arithmetic say it first.

    Args:
        what: the format or container, for the message.
        path: the entry.

    Raises:
        BadFormat: the body raised ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
            RecursionError, EOFError, struct.error, zlib or zip errors.
    """
    try:
        yield
    except AssayError:
        raise
    except (MemoryError, KeyboardInterrupt, OSError):
        raise
    except Exception as error:  # the one deliberate seam: any parsing bug becomes a clear refusal
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise BadFormat(
            f"{path or 'the file'} is not readable as {what} ({reason})", path=path, reason=reason
        ) from error
