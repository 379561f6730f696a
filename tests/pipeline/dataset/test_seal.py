from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import seal

BLANK = b'{"%s": "%s"}' % (seal.KEY.encode(), seal.BLANK.encode())


@given(before=st.binary(max_size=50), after=st.binary(max_size=50), data=st.data())
def test_a_change_of_any_byte_breaks_the_seal(
    before: bytes, after: bytes, data: st.DataObject
) -> None:
    blank = before + BLANK + after
    assert not seal.is_whole(blank)
    sealed = seal.close(blank)
    assert seal.is_whole(sealed)
    assert len(sealed) == len(blank)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(1, 255))
    assert not seal.is_whole(sealed[:at] + bytes([sealed[at] ^ other]) + sealed[at + 1 :])
    assert not seal.is_whole(sealed[:at])
    assert not seal.is_whole(sealed + b"x")


def test_only_a_blank_seal_is_closed() -> None:
    for data in (b"nothing", seal.close(BLANK)):
        with pytest.raises(ValueError, match="no blank seal"):
            seal.close(data)
