"""What docs and console say of the program is as the program says it."""

from __future__ import annotations

import pytest

from sinks.stores.s3 import rights
from tests import documented


@pytest.mark.parametrize("file", documented.PARTS)
def test_what_is_made_of_the_program_is_current(file: str) -> None:
    kept = (documented.ROOT / file).read_text("utf-8")
    assert kept == documented.current(file), "run `make docs`"


def test_each_right_in_s3_is_tried_but_that_of_looking_for_the_bucket() -> None:
    assert {right.name for right in rights.NEEDED} - {"s3:ListBucket"} == rights.CHECKS.keys()
