"""What goes wrong with a bucket, in our words.

Servers say what is wrong by an HTTP status and a code in the body (``<Code>NoSuchBucket</Code>``); the client library
gives both as text. Only those two are read: the rest may repeat parts of a signed request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from assay.errors import StorageError

_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})\b")

_BUSY = frozenset("SlowDown SlowDownRead SlowDownWrite TooManyRequests RequestLimitExceeded ServiceUnavailable".split())
_AGAIN = _BUSY | frozenset("InternalError RequestTimeout OperationAborted ConditionalRequestConflict".split())
_CREDENTIALS = frozenset(
    "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken TokenRefreshRequired".split()
)
_REGION = frozenset(
    "PermanentRedirect TemporaryRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException".split()
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a server, or the way to it, said.

    Args:
        code: the server's code, if it gave one.
        status: the HTTP status, if there was an answer.
        no_credentials: none were found to sign a request with.
    """

    code: str = ""
    status: int = 0
    no_credentials: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Read it from what the client library raised."""
        text = str(error)
        code, status = _CODE.search(text), _STATUS.search(text)
        lower = text.lower()
        missing = "credential" in lower and status is None
        return cls(code[1] if code else "", int(status[1]) if status else 0, missing)

    @property
    def passing(self) -> bool:
        """Whether trying again may help."""
        if self.no_credentials:
            return False
        return self.code in _AGAIN or self.status in {0, 429} or self.status >= 500

    @property
    def conflicting(self) -> bool:
        """Whether two conditional writes met: the loser is to look again."""
        return self.code == "ConditionalRequestConflict" or self.status == 409

    def reason(self, place: str) -> str:
        """What is wrong, in a few words."""
        return self._meaning(place)[1]

    def error(self, doing: str, place: str) -> StorageError:
        """The error to raise.

        Args:
            doing: the beginning of the message: what failed.
            place: what to call the bucket.
        """
        code, reason, hint = self._meaning(place)
        return StorageError(f"{doing}: {reason}", code=code, hint=hint, place=place, server_code=self.code or None)

    def _meaning(self, place: str) -> tuple[str, str, str]:
        bucket = place.partition("://")[2].partition("/")[0]
        if self.no_credentials or self.code in _CREDENTIALS:
            reason = "no credentials were found" if self.no_credentials else f"credentials are not valid ({self.code})"
            return "bucket-credentials", reason, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        if self.code == "NoSuchBucket":
            return "bucket-missing", f"there is no bucket {bucket}", "make the bucket first, or mend its name"
        if self.code in _REGION or self.status in {301, 307}:
            return "bucket-region", "the bucket lies in another region", "set AWS_REGION to the bucket's region"
        if self.code == "RequestTimeTooSkewed":
            return "bucket-clock", "this machine's clock is too far from the server's", "set the clock (NTP)"
        if self.status in {401, 403}:
            rights = "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket"
            return "bucket-denied", "access denied", f"these keys need the rights {rights} on {place}"
        if self.code in _BUSY or self.status in {429, 503}:
            return "bucket-busy", "the server asks for fewer requests, again and again", "try later"
        if self.status == 0:
            return "bucket-unreachable", "no answer", "look at the network and at AWS_ENDPOINT_URL, then run it again"
        return "bucket-failed", f"the server answers {self.status} {self.code}".rstrip(), "run it again"
