from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset import seal

BLANK = b'{"%s": "%s"}' % (seal.KEY.encode(), seal.BLANK.encode())


@given(before=st.binary(max_size=50), after=st.binary(max_size=50), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_change_of_any_byte_breaks_the_seal(
    tmp_path: Path, before: bytes, after: bytes, data: st.DataObject
) -> None:
    path = tmp_path / "file"
    path.write_bytes(before + BLANK + after)
    assert not seal.is_whole(path.read_bytes())
    seal.close(path)
    sealed = path.read_bytes()
    assert seal.is_whole(sealed)
    assert len(sealed) == len(before + BLANK + after)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(1, 255))
    assert not seal.is_whole(sealed[:at] + bytes([sealed[at] ^ other]) + sealed[at + 1 :])
    assert not seal.is_whole(sealed[:at])
    assert not seal.is_whole(sealed + b"x")


def test_only_a_blank_seal_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no blank seal"):
        seal.close(path)
    path.write_bytes(BLANK)
    seal.close(path)
    with pytest.raises(ValueError, match="no blank seal"):
        seal.close(path)
