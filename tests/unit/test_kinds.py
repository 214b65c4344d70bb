"""Every kind of store in the list is one that targets are read of, and one that is open."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from app.errors import ConfigurationError
from app.run import doctor
from app.run.wiring import targets
from app.run.wiring.kinds import KINDS, STORES
from app.run.wiring.targets import check_stores, open_targets
from app.settings import Settings
from app.tenants.registry import ConfiguredTenants
from sinks import stores
from sinks.stores.kinds import StoreKind
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import make_target, make_tenant_settings


async def test_every_kind_that_targets_are_read_of_is_opened() -> None:
    async with open_targets(Settings(), in_use=list) as stores:
        assert stores.kinds == set(KINDS.settings()) == {store.targets.kind for store in STORES}


def test_no_kind_is_called_as_another() -> None:
    assert len(KINDS.settings()) == len(STORES)


def test_what_a_kind_can_not_be_opened_with_is_found_before() -> None:
    assert check_stores(Settings()) == {}
    found = check_stores(Settings(s3_ca="/nowhere/ca.pem"))
    assert found.keys() == {"s3", "azure", "gcs"}
    for kind, (finding,) in found.items():
        assert (finding.part, finding.check, finding.ok) == (kind, "certificates", False)
        assert finding.advice == "see DELIVERY_S3_CA"
        assert "/nowhere/ca.pem" in finding.message


async def test_it_is_not_opened_with_that_either() -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_S3_CA"):
        async with open_targets(Settings(s3_ca="/nowhere/ca.pem"), in_use=list):
            raise AssertionError


def _imported(path: Path) -> Iterator[str]:
    """Return the modules that a file imports, by their names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_store_is_made_of_another_and_what_they_share_is_made_of_none() -> None:
    folder = Path(stores.__file__).parent
    kinds = {f"sinks.stores.{path.name}" for path in folder.iterdir() if path.is_dir()}
    kinds = {kind for kind in kinds if not kind.endswith("__")} | {"sinks.stores.memory"}
    assert len(kinds) > len(STORES)
    for path in folder.rglob("*.py"):
        own = ".".join(["sinks.stores", *path.relative_to(folder).with_suffix("").parts][:2])
        others = kinds - {own}
        found = {name for name in _imported(path) if ".".join(name.split(".")[:3]) in others}
        assert not found, path


@contextlib.asynccontextmanager
async def _open_memory(*_: object) -> AsyncIterator[MemoryObjectStore]:
    yield MemoryObjectStore()


MEMORY = StoreKind(targets=MemoryTarget, check=lambda _: (), open=_open_memory)


async def test_the_doctor_tries_the_targets_of_other_kinds_than_one_that_can_not_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "STORES", (*STORES, MEMORY))
    near = MemoryTarget(container="c")
    settings = make_tenant_settings(target=make_target(), targets={"near": near})
    tenants = SimpleNamespace(
        unreadable=dict,
        borrowing=dict,
        paused=lambda _: False,
        settings=lambda _: settings,
    )
    found = [
        (finding.part, finding.check, finding.ok)
        async for finding in doctor.check_targets(
            Settings(s3_ca="/nowhere/ca.pem", tenants=("t",)), cast("ConfiguredTenants", tenants)
        )
    ]
    refused = [(kind, "certificates", False) for kind in ("s3", "azure", "gcs")]
    assert found[:3] == refused
    assert found[3:]
    assert {(part, ok) for part, _, ok in found[3:]} == {("memory", True)}
