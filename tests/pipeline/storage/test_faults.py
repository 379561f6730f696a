"""Which errors are transient, and how the permanent ones are explained."""

from __future__ import annotations

import errno
import os

import botocore.exceptions
import pytest

from pipeline.storage.faults import (
    explain,
    is_transient,
    one_line,
    service_code,
)


def answer(code: str, status: int) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "PutObject",
    )


def translated(code: str, status: int) -> OSError:
    """An error as s3fs raises it: translated, with the answer of the service as its cause."""
    error = OSError(errno.EIO, "translated")
    error.__cause__ = answer(code, status)
    return error


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (translated("SlowDown", 503), True),
        (translated("InternalError", 500), True),
        (translated("RequestTimeout", 400), True),
        (translated("502", 502), True),
        (translated("NotImplemented", 501), False),
        (translated("XMinioStorageFull", 507), False),
        (translated("AccessDenied", 403), False),
        (translated("NoSuchBucket", 404), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError("slow"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), True),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), True),
        (botocore.exceptions.NoCredentialsError(), False),
        (OSError(errno.ESTALE, "stale"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError("x"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_passes_by_itself(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (translated("InvalidAccessKeyId", 403), "the credentials are wrong"),
        (translated("SignatureDoesNotMatch", 403), "the credentials are wrong"),
        (translated("ExpiredToken", 400), "have expired"),
        (translated("AuthorizationHeaderMalformed", 400), "set AWS_REGION"),
        (translated("403", 403), "access denied"),
        (translated("XMinioStorageFull", 507), "no space left"),
        (translated("Weird", 400), "the service answers Weird: "),
        (botocore.exceptions.NoCredentialsError(), "no credentials found"),
        (
            botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"),
            "half of the credentials",
        ),
        (FileNotFoundError("text only"), "not found"),
        (OSError(errno.EXDEV, os.strerror(errno.EXDEV)), "cross-device"),
    ],
)
def test_permanent_faults_are_explained(error: Exception, words: str) -> None:
    assert words in explain(error)


def test_a_bug_is_not_explained_away() -> None:
    assert explain(ValueError("a bug")) == ""
    assert explain(KeyError("x")) == ""


def test_service_code() -> None:
    assert service_code(translated("NoSuchBucket", 404)) == "NoSuchBucket"
    assert service_code(OSError("x")) == ""


def test_the_text_of_an_error_is_one_line() -> None:
    assert one_line(OSError("a\n  b")) == "a b"
    assert one_line(OSError()) == "OSError"
