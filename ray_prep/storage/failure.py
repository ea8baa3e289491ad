"""What went wrong in a store: the one place where foreign errors become ours."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ray_prep.errors import StorageError
from ray_prep.redaction import redact

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Names of errors that pass by themselves although their status says the request was wrong.
_PASSING_CODES = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"})
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})


class PassingFault(StorageError):
    """A fault that may pass: worth another try until patience ends, and a StorageError then."""


@dataclass(frozen=True)
class Place:
    """Where a request went, for messages.

    Args:
        uri: What was asked for.
        endpoint: Who was asked; empty where it is this machine.
        hint: What a person may do about a refusal.
    """

    uri: str
    endpoint: str
    hint: str = ""

    def fault(self, status: int | None, code: str, text: str) -> StorageError | FileNotFoundError:
        """Return the error that a status and a code of the server stand for.

        Args:
            status: HTTP status; None where no answer came.
            code: The cloud's name of the error; empty where unknown.
            text: What else is known, one line; with a redirection, the region it names.
        """
        said = " ".join(filter(None, [str(status or ""), code])) or text
        if code == "NoSuchBucket" or (status == 404 and code in {"ContainerNotFound", "NoSuchContainer"}):
            bucket = self.uri.partition("://")[2].partition("/")[0]
            msg = (
                f"{self.uri}: there is no bucket {bucket!r} at {self.endpoint}; correct the uri, or create the bucket (ray_prep never does)"
            )
            return StorageError(msg)
        if code == "RequestTimeTooSkewed":
            return StorageError(f"{self.uri}: {self.endpoint} refuses the request because the clock of this machine is wrong")
        if status in {401, 403} or code in _EXPIRED_CODES:
            return StorageError(f"{self.uri}: {self.endpoint} refuses access ({said}); {self.hint}")
        if status == 404:
            return FileNotFoundError(f"{self.uri}: not there")
        if status in {301, 307, 308} or code in {"PermanentRedirect", "AuthorizationHeaderMalformed"}:
            msg = f"{self.uri}: {self.endpoint} sends us elsewhere ({said}): another region; set storage_options.region{text}"
            return StorageError(redact(msg))
        if status is None or status in _PASSING_STATUSES or code in _PASSING_CODES:
            why = "does not answer" if status is None else "is not able to answer"
            msg = f"{self.uri}: {self.endpoint} {why} ({said}); check the endpoint and the network"
            return PassingFault(redact(msg))
        return StorageError(redact(f"{self.uri}: {self.endpoint} answers {said} {text}".rstrip()))

    def obstore_fault(self, error: Exception) -> StorageError | FileNotFoundError:
        """Return the error that an exception of obstore 0.12 stands for; it gives status and code in the message only."""
        text = str(error).partition("\n\nDebug source")[0].strip()
        status, code = _STATUS.search(text), _CODE.search(text)
        if "BadScheme" in str(error):
            return StorageError(
                f"{self.uri}: {self.endpoint} is reached without TLS; set storage_options.allow_http: true if that is meant"
            )
        if "Received redirect without LOCATION" in text:
            return self.fault(301, "", "")
        number = int(status[1]) if status else None
        if number is None and isinstance(error, FileNotFoundError):
            number = 404
        if number is None and not re.search(r"HTTP error|error sending request|error decoding|timed? ?out|connection|Content-Range", text):
            return StorageError(redact(f"{self.uri}: {text}"))
        cause = re.findall(r"error: \"([^\"]+)\"|message: \"([^\"]+)\"|kind: (Timeout|Connect)\b", str(error))
        short = next((a or b for a, b, _ in cause if a or b), "timed out" if any(c == "Timeout" for *_, c in cause) else "no connection")
        return self.fault(number, code[1] if code else "", short if number is None else text.splitlines()[0][:300])


def insist(attempt: Callable[[], T], retry_s: float, stop: threading.Event | None = None) -> T:
    """Return what `attempt` does, trying again while it raises PassingFault, with growing, jittered pauses.

    Args:
        attempt: One request, its errors mapped.
        retry_s: Seconds after which the fault is raised as it is.
        stop: Ends the waiting.
    """
    begin, pause_s = time.monotonic(), 0.2
    while True:
        try:
            return attempt()
        except PassingFault as fault:
            spent_s = time.monotonic() - begin
            if spent_s + pause_s > retry_s or (stop is not None and stop.is_set()):
                msg = f"{fault} (tried for {spent_s:.0f} s)"
                raise StorageError(msg) from fault
        # Many workers meet the same outage at the same moment: jitter keeps them from coming back at the same moment.
        wait_s = pause_s * random.uniform(0.5, 1.0)
        if stop is None:
            time.sleep(wait_s)
        else:
            stop.wait(wait_s)
        pause_s = min(pause_s * 2, 15.0)
