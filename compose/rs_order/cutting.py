"""How an order is cut into suborders: by dataset, by size, by number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

T = TypeVar("T")

Datasets = Literal["one", "product", "prefix"]
_PREFIX = re.compile(r"[^_-]*")


def dataset_of(product_id: str, how: Datasets) -> str:
    """Return the dataset of a product: products of a folder have none, so it is made of their ids.

    `one`: the same for all; `product`: each its own; `prefix`: what is before the first _ or -.
    """
    if how == "one":
        return "all"
    if how == "product":
        return product_id
    prefix = _PREFIX.match(product_id)
    return prefix[0] if prefix else product_id


def cut(
    files: Iterable[T], *, size_of: Callable[[T], int], max_bytes: int, max_files: int
) -> Iterator[list[T]]:
    """Cut the files of one dataset; 0 is no limit.

    A suborder is closed behind the file by which it reaches a limit, as rs-order does: it may be
    larger than `max_bytes` by almost that file, and a file that is larger alone ends one.
    """
    suborder: list[T] = []
    size = 0
    for file in files:
        suborder.append(file)
        size += size_of(file)
        if (max_bytes and size >= max_bytes) or (max_files and len(suborder) >= max_files):
            yield suborder
            suborder, size = [], 0
    if suborder:
        yield suborder
