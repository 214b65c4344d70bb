"""Unit tests meet no setting but their own."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the stack's, which other tests of the same process have exported."""
    for name in os.environ:
        if name.startswith("DELIVERY_"):
            monkeypatch.delenv(name)
