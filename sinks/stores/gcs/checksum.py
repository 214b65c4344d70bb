"""The CRC32C of bytes that are put together, made of the CRC32Cs of its pieces.

A CRC is linear: that of A and B is that of A as if zeros came behind it, as many as B has bytes,
xor that of B. Zeros are a matrix, whose powers are kept, since most pieces have one size.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_Matrix = tuple[int, ...]  # 32 columns


def of_base64(text: str) -> int:
    """Return a CRC32C as Google writes it. Raises ValueError."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 4:
        raise ValueError("a CRC32C has 4 bytes")
    return int.from_bytes(raw, "big")


def joined(pieces: Iterable[tuple[int, int]]) -> int:
    """Return the CRC32C of all bytes of pieces, given as the CRC32C and the size of each."""
    crc = 0
    for piece, size in pieces:
        crc = _times(_zeros(size), crc) ^ piece
    return crc


def _times(matrix: _Matrix, vector: int) -> int:
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
        if not vector:
            break
    return product


def _product(left: _Matrix, right: _Matrix) -> _Matrix:
    return tuple(_times(left, column) for column in right)


@lru_cache(maxsize=64)
def _power(exponent: int) -> _Matrix:
    """Return what 2 ** exponent bytes of zeros do."""
    if exponent == 0:
        bit: _Matrix = (_POLYNOMIAL, *(1 << n for n in range(31)))
        for _ in range(3):  # 8 bits
            bit = _product(bit, bit)
        return bit
    half = _power(exponent - 1)
    return _product(half, half)


@lru_cache(maxsize=64)
def _zeros(size: int) -> _Matrix:
    """Return what so many bytes of zeros do."""
    matrix: _Matrix = tuple(1 << n for n in range(32))
    for exponent in range(size.bit_length()):
        if size >> exponent & 1:
            matrix = _product(_power(exponent), matrix)
    return matrix
