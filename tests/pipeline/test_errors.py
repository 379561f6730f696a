from pipeline.errors import UserError
from pipeline.redaction import redact, redacted


def test_secrets_are_hidden() -> None:
    text = "at https://me:pass@host/x?X-Amz-Signature=abc&X-Amz-Security-Token=def&part=2"
    hidden = "at https://host/x?X-Amz-Signature=&X-Amz-Security-Token=&part=2"
    assert redact(text) == hidden
    assert str(UserError(text)) == hidden
    assert redacted({"a": [text, 1], "b": None}) == {"a": [hidden, 1], "b": None}
