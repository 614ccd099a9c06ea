"""Every error Assay raises on purpose, grouped by what the caller can do about it.

Concept: an error is data. Its class says what a handler can do, its ``code`` is what a program matches
(append-only, listed in ``docs/reference/errors.md``), its attributes are what a log stores, its message is what a
person reads, its ``hint`` is what to type next.

Rule for editors: messages are one line, lower case, without a final period, and name the thing and the two values
that disagree; no secret and no traceback. Exit statuses are those of the command line (0 done, 1 the answer is no,
2 it could not be done, 64 mistyped, 70 our own fault).

Not here: findings about foreign bytes, which are not errors (``assay.spec.finding``).

    AssayError
    ├── AnswerIsNo                 exit 1: a question was asked and the answer is no
    │   ├── VerificationFailed
    │   └── Refused
    └── CouldNot                   exit 2: it could not be done or decided
        ├── NotFound
        ├── Conflict
        ├── InvalidInput
        │   └── BadFormat          foreign bytes do not obey their format
        │       └── LimitExceeded  a bounded parser reached its bound
        ├── IntegrityError         bytes do not match their digest
        ├── StorageError
        └── MissingDependency
"""

from __future__ import annotations

import errno
from typing import ClassVar


class AssayError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: one line, lower case, no final period.
        code: stable machine-readable code; the class default when omitted.
        hint: what to type or do next, if anything.
        details: values a log or ``--json`` should keep.
    """

    default_code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.details = details

    def to_json(self) -> dict[str, object]:
        """The error as the JSON object that ``--json`` prints."""
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.details:
            body["details"] = {
                key: value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)
                for key, value in self.details.items()
            }
        return body


class AnswerIsNo(AssayError):
    """A question was decided, and the answer is no."""

    default_code = "no"
    exit_status = 1


class VerificationFailed(AnswerIsNo):
    """Stored bytes were checked and do not match."""

    default_code = "verification-failed"


class Refused(AnswerIsNo):
    """Policy or safety does not allow it."""

    default_code = "refused"


class CouldNot(AssayError):
    """It could not be done or decided."""

    default_code = "could-not"


class NotFound(CouldNot):
    """What was named does not exist here."""

    default_code = "not-found"


class Conflict(CouldNot):
    """Somebody else changed or holds it."""

    default_code = "conflict"


class InvalidInput(CouldNot):
    """What was given cannot be accepted."""

    default_code = "invalid-input"


class BadFormat(InvalidInput):
    """Foreign bytes do not obey their format.

    Raised by containers and formats; ``details`` carry ``path`` and ``offset`` where known.
    """

    default_code = "bad-format"


class LimitExceeded(BadFormat):
    """A bounded parser reached its bound (bytes, nesting, counts) before it was done."""

    default_code = "limit-exceeded"


class IntegrityError(CouldNot):
    """Bytes do not match the digest or size that describes them."""

    default_code = "digest-mismatch"


class StorageError(CouldNot):
    """A place that keeps bytes or records failed: full, read-only, unreachable, damaged."""

    default_code = "storage"

    @classmethod
    def of(cls, error: OSError, doing: str, **details: object) -> StorageError:
        """What an operating-system error means for a place that keeps bytes or records.

        Args:
            doing: what failed, on what: the beginning of the message.

        Returns:
            code ``store-full``, ``store-read-only``, ``too-many-files`` or ``storage``, with a hint where there is one.
        """
        code, hint = _MEANINGS.get(error.errno or 0, (None, None))
        return cls(f"{doing}: {(error.strerror or str(error)).lower()}", code=code, hint=hint, **details)


_FULL = ("store-full", "free some space, or choose another place with ASSAY_HOME, then run it again")
_READ_ONLY = ("store-read-only", "use a place you may write to (ASSAY_HOME), or ask its owner for the right to write")
_MANY = ("too-many-files", "allow this process more open files (ulimit -n 65536), then run it again")
_MEANINGS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "store-full",
        "the file system or a limit of this process (ulimit -f) does not allow files this large",
    ),
    errno.EMFILE: _MANY,
    errno.ENFILE: _MANY,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
}


class MissingDependency(CouldNot):
    """An optional library is needed for this and is not installed."""

    default_code = "missing-dependency"
