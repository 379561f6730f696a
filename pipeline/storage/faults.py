"""Which errors of a storage operation are transient, and how to explain the permanent ones.

`pipeline.storage.storage` retries the transient ones. This module knows the error codes of the
operating system and of S3. It recognises errors of client libraries by class name, so that it
imports none of these libraries.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from pipeline.redaction import shown

_TRANSIENT_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "EINTR",
        "ESTALE",
        "EREMOTEIO",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "EPIPE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)  # macOS has no EREMOTEIO, for one
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
        "ConditionalRequestConflict",  # two conditional puts at once: one of them must try again
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
    """Whether the same operation may succeed when it is tried again."""
    for cause in _chain(error):
        response = _response(cause)
        if response:
            code, status = response
            return (
                code in _TRANSIENT_CODES
                or status in (408, 429)
                or (status >= 500 and code not in _CODES and status not in (501, 507))
            )
        if _names(cause) & _TRANSIENT_NAMES or isinstance(cause, ConnectionError):
            return True
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRNO:
            return True
    return False


def service_code(error: BaseException) -> str:
    """The S3 error code behind an exception, "" if there is none."""
    return next((found[0] for found in map(_response, _chain(error)) if found), "")


def is_full(error: BaseException) -> bool:
    """Whether a local file system has no room left."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(cause, OSError) and cause.errno in full for cause in _chain(error))


def already_exists(error: BaseException) -> bool:
    """Whether a conditional create was refused because the file exists already."""
    codes = ("PreconditionFailed", "412")
    return service_code(error) in codes or isinstance(error, FileExistsError)


def lacks_conditions(error: BaseException) -> bool:
    """Whether the service or the file system does not support conditional creates."""
    if isinstance(error, NotImplementedError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOTSUP:
        return True
    found = next((each for each in map(_response, _chain(error)) if each), ("", 0))
    return found[0] in ("NotImplemented", "XNotImplemented") or found[1] == 501


def explain(error: BaseException) -> str:
    """What is wrong and how to put it right, in one line; "" if this is no storage error."""
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
    """Text of an error: one line, at most 300 characters, without credentials in URLs."""
    return shown(" ".join(str(error).split()))[:300] or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: s3fs translates an error and keeps the original as its cause."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _response(error: BaseException) -> tuple[str, int] | None:
    """Code and HTTP status of an error that carries a response, else None."""
    if "ClientResponseError" in _names(error):  # of aiohttp, for web servers
        return "", int(getattr(error, "status", 0))
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or "Error" not in response:
        return None
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response["Error"].get("Code", "")), int(status)


def _implied(error: OSError) -> int:
    """The errno that the class of an OSError implies: fsspec raises some without an errno."""
    for kind, number in (
        (FileNotFoundError, errno.ENOENT),
        (PermissionError, errno.EACCES),
        (NotADirectoryError, errno.ENOTDIR),
        (IsADirectoryError, errno.EISDIR),
    ):
        if isinstance(error, kind):
            return number
    return 0
