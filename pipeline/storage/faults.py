"""What a failed storage operation means: does it pass by itself, and what would put it right.

Knows the error vocabulary of the operating system and of S3. Client libraries are recognised by
class name, so none of them is imported to explain the error of another.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ESTALE,
        errno.EREMOTEIO,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)
_TRANSIENT_NAMES = frozenset(
    {
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "HTTPClientError",
        "IncompleteReadError",
        "ProxyConnectionError",
        "ResponseParserError",
        "TimeoutError",
    }
)
_TRANSIENT_CODES = frozenset(
    {
        "409",
        "ConditionalRequestConflict",  # two conditional puts at once: one of them must ask again
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:signature|token|key|credential|secret|password)[^=&\s]*)=[^&\s]+",
    re.IGNORECASE,
)
_FULL = "no space left: free some or choose another output"
_CREDENTIALS = "the credentials are wrong: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = "the credentials have expired: renew them"
_NO_CREDENTIALS = "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
_DENIED = "access denied: the account needs permission for this path"
_REGION = "the bucket is in another region: set AWS_REGION"
_CODES = {
    "AccessDenied": _DENIED,
    "403": f"{_DENIED}, and valid credentials",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "ExpiredToken": _EXPIRED,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidBucketName": "this is not a valid bucket name",
    "NoSuchBucket": "the bucket does not exist: create it or correct the name",
    "NoSuchKey": "not found",
    "404": "not found",
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "RequestTimeTooSkewed": "the clock of this machine is wrong: synchronise it",
}
_NAMES = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": "half of the credentials is missing: set both "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "the profile in AWS_PROFILE does not exist",
}
_ERRNO = {
    errno.EACCES: "permission denied: choose a folder that this user may use",
    errno.EPERM: "permission denied: choose a folder that this user may use",
    errno.EROFS: "the file system is read-only: choose another output",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the disk quota is used up: free some or choose another output",
    errno.EFBIG: "the file is larger than this file system or user limit allows",
    errno.ENOENT: "not found",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long",
}


def is_transient(error: BaseException) -> bool:
    """Say whether the same operation may succeed when it is tried again."""
    for cause in _chain(error):
        response = _response(cause)
        if response:
            code, status = response
            return (
                code in _TRANSIENT_CODES
                or status == 429
                or (status >= 500 and code not in _CODES and status not in (501, 507))
            )
        if _names(cause) & _TRANSIENT_NAMES or isinstance(cause, ConnectionError):
            return True
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRNO:
            return True
    return False


def service_code(error: BaseException) -> str:
    """Return the S3 error code behind an exception, "" if there is none."""
    return next((found[0] for found in map(_response, _chain(error)) if found), "")


def is_full(error: BaseException) -> bool:
    """Say whether a local file system has no room left."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(cause, OSError) and cause.errno in full for cause in _chain(error))


def already_exists(error: BaseException) -> bool:
    """Say whether a conditional create was refused because something is there."""
    codes = ("PreconditionFailed", "412")
    return service_code(error) in codes or isinstance(error, FileExistsError)


def lacks_conditions(error: BaseException) -> bool:
    """Say whether the service knows no conditional create."""
    found = next((each for each in map(_response, _chain(error)) if each), ("", 0))
    return found[0] in ("NotImplemented", "XNotImplemented") or found[1] == 501


def explain(error: BaseException) -> str:
    """Say in one line what is wrong and what would be right; "" if this is no storage fault."""
    for cause in _chain(error):
        response = _response(cause)
        if response:
            code, status = response
            known = _CODES.get(code) or _CODES.get(str(status))
            return known or f"the service answers {code or status}: {one_line(cause)}"
        for name in _names(cause) & _NAMES.keys():
            return _NAMES[name]
    if is_transient(error):
        return f"the service does not answer properly: {one_line(error)}"
    if isinstance(error, OSError):
        return _ERRNO.get(error.errno or 0) or _ERRNO.get(_implied(error)) or one_line(error)
    return one_line(error) if "BotoCoreError" in _names(error) else ""


def one_line(error: object) -> str:
    """Text of an error without line breaks, credentials in URLs, or more than 300 characters."""
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__


def redact(text: str) -> str:
    """Hide user information and signatures inside URLs."""
    return _SECRET_PARAMETER.sub(r"\1=", re.sub(r"://[^/\s@]+@", "://", text))


def redacted(value: Any) -> Any:
    """JSON values with every text redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else value


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it: s3fs translates, and keeps the original as the cause."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _response(error: BaseException) -> tuple[str, int] | None:
    """Code and HTTP status of an error that carries an S3 response."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or "Error" not in response:
        return None
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response["Error"].get("Code", "")), int(status)


def _implied(error: OSError) -> int:
    """The errno of an OSError that was made from text only, as fsspec does."""
    for kind, number in (
        (FileNotFoundError, errno.ENOENT),
        (PermissionError, errno.EACCES),
        (NotADirectoryError, errno.ENOTDIR),
        (IsADirectoryError, errno.EISDIR),
    ):
        if isinstance(error, kind):
            return number
    return 0
