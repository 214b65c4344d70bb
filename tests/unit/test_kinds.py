"""Every kind of store in the list is one that targets are read of, and one that is open."""

from __future__ import annotations

import pytest

from app.errors import ConfigurationError
from app.run.wiring.kinds import KINDS, STORES
from app.run.wiring.targets import check_stores, open_targets
from app.settings import Settings


async def test_every_kind_that_targets_are_read_of_is_opened() -> None:
    async with open_targets(Settings(), in_use=list) as stores:
        assert stores.kinds == set(KINDS.settings()) == {store.targets.kind for store in STORES}


def test_no_kind_is_called_as_another() -> None:
    assert len(KINDS.settings()) == len(STORES)


def test_what_a_kind_can_not_be_opened_with_is_found_before() -> None:
    assert list(check_stores(Settings())) == []
    (finding,) = check_stores(Settings(s3_ca="/nowhere/ca.pem"))
    assert (finding.part, finding.check, finding.ok) == ("s3", "certificates", False)
    assert finding.advice == "see DELIVERY_S3_CA"
    assert "/nowhere/ca.pem" in finding.message


async def test_it_is_not_opened_with_that_either() -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_S3_CA"):
        async with open_targets(Settings(s3_ca="/nowhere/ca.pem"), in_use=list):
            raise AssertionError
