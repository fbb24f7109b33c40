"""The IDX reader, on handmade files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from partedvae.training.data.dataset import DataError
from partedvae.training.data.idx import read_idx

CONTENT = b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 1, 3) + bytes(range(6))


def test_an_idx_file_is_read_in_its_own_shape(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    assert read_idx(tmp_path / "plain").tolist() == [[[0, 1, 2]], [[3, 4, 5]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file of unsigned bytes"),
        (b"\x00\x00\x0d\x01" + struct.pack(">I", 1), "is not an IDX file of unsigned bytes"),
        (CONTENT[:9], "ends inside its header"),
        (CONTENT[:-1], "has 5 bytes of data, but its header states (2, 1, 3)"),
        (CONTENT + b"x", "has 7 bytes of data"),
    ],
)
def test_the_error_for_a_damaged_file_has_name_and_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
