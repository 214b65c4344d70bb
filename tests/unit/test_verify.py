"""Files against their listing, with digests that run beside."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import pytest

from app.errors import WrongCrc32Error, WrongFileError
from sinks.pipeline.verify import FileVerifier
from tests.builders import make_file
from tests.conftest import noise

BLOCK = 1024 * 1024
CONTENT = noise(3 * BLOCK)


@pytest.fixture
def verifier() -> Iterator[FileVerifier]:
    made = FileVerifier(lambda _size: None, lag=2 * BLOCK)
    yield made
    made.close()


def blocks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), BLOCK):
        yield content[start : start + BLOCK]


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:100], b""], ids=["large", "small", "empty"])
def test_a_right_file_passes_as_it_is(verifier: FileVerifier, content: bytes) -> None:
    for file in (make_file("m", content), make_file("m", content, md5=None)):
        assert b"".join(verifier.verified(file, blocks(content))) == content
    verifier.finish()


@pytest.mark.parametrize("length", [100, 3 * BLOCK])
@pytest.mark.parametrize(
    ("more", "md5", "words"),
    [
        (-1, None, "expected {} bytes, got more"),
        (+1, None, "expected {} bytes, got {}"),
        (0, "0" * 32, f"expected MD5 {'0' * 32}, got {{md5}}"),
    ],
)
def test_a_wrong_file_is_told_with_both_values(
    verifier: FileVerifier, length: int, more: int, md5: str | None, words: str
) -> None:
    content = CONTENT[:length]
    file = make_file("m", content, size=length + more, md5=md5)
    expected = words.format(length + more, length, md5=hashlib.md5(content).hexdigest())
    with pytest.raises(WrongFileError, match=expected):
        # Large ones are found out beside: when something later passes, or at the end.
        for _ in verifier.verified(file, blocks(content)):
            pass
        verifier.finish()


@pytest.mark.parametrize("length", [0, 100, 3 * BLOCK])
def test_a_wrong_crc32_is_told_at_the_end_of_its_file(verifier: FileVerifier, length: int) -> None:
    """Before anything comes behind it, also of a file without an MD5."""
    content = CONTENT[:length]
    right = zlib.crc32(content)
    file = make_file("m", content, crc32=right, md5=None)
    assert b"".join(verifier.verified(file, blocks(content))) == content
    file = make_file("m", content, crc32=right ^ 1, md5=None)
    words = f"expected CRC-32 {right ^ 1:08x}, got {right:08x}"
    with pytest.raises(WrongFileError, match=words) as raised:
        b"".join(verifier.verified(file, blocks(content)))
    assert not isinstance(raised.value, WrongCrc32Error), "no MD5 tells which of them is wrong"
    with pytest.raises(WrongCrc32Error, match=words):
        b"".join(verifier.verified(make_file("m", content, crc32=right ^ 1), blocks(content)))
    assert verifier.passed == 1


def test_a_wrong_file_is_told_while_later_ones_pass(verifier: FileVerifier) -> None:
    wrong, right = make_file("wrong", CONTENT, md5="0" * 32), make_file("right", CONTENT)
    with pytest.raises(WrongFileError, match="wrong"):
        for file in (wrong, *[right] * 20):
            for _ in verifier.verified(file, blocks(CONTENT)):
                pass
