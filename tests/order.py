"""In which order the tests run, and which of them side by side: several workers, a stack each.

The longest come first, so that no worker is left with one at the end. `--drawn SEED` draws the
order instead: no test may rest on what another one left behind.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

# Beginnings of the ids of the tests that take longest, in order. All others follow.
_LONGEST = (
    "tests/acceptance",
    "tests/chaos/test_chaos.py::test_nothing",
    "tests/integration/test_readers.py::test_a_reader_finds_every_member_whole[large",
    "tests/integration/test_kafka_cluster.py::test_deliveries",
    "tests/lines",
    "tests/integration/test_kafka_secured.py",
    "tests/browser",
    "tests/integration/test_configured_service.py::test_settings",
    "tests/integration/test_outages.py",
    "tests/integration/test_stopping.py",
    "tests/integration/test_recovery.py",
    "tests/integration/test_quorum.py",
    "tests/integration/test_windows.py",
    "tests/integration/test_kafka.py",
    "tests/integration/test_consumer.py",
    "tests/integration/test_readers.py::test_a_reader_finds_every_member_whole[many",
    "tests/integration/test_lost_topics.py",
    "tests/web/test_settings.py",
    "tests/contract",
    "tests/web/test_schema.py",
    "tests/integration/test_kafka_cluster.py",
    "tests/integration/test_dead_letter_topic.py",
)
# Their tests share a service, so they stay together.
_TOGETHER = ("tests/acceptance", "tests/browser", "tests/contract", "tests/lines")
# Nothing is shared but the stack, and a test takes long: each goes where there is room.
_APART = ("tests/chaos", "tests/integration", "tests/model", "tests/store")
# Their tests share a broker.
_IN_ONE = (
    "tests/integration/test_kafka_over_tls.py",
    "tests/integration/test_kafka_secured.py",
)
# An archive of gigabytes is made once for all its readers; its kind comes first in a test's id.
_BY_KIND = "tests/integration/test_readers.py"
# Who names one of these gives one set of queues, which the services of two workers would share.
_GIVEN = ("DELIVERY_AMQP_URL", "DELIVERY_KAFKA_BOOTSTRAP_SERVERS", "DELIVERY_RS_ORDER_URL")
_MOST = 8  # workers; a stack and its services take 800 MB


def unit_of(test_id: str) -> str:
    """Return what a test is handed out with: its folder, its file, or only itself."""
    file = test_id.partition("::")[0]
    folder = file.rpartition("/")[0]
    if folder in _TOGETHER:
        return folder
    if file in _IN_ONE:
        return file
    if file == _BY_KIND:
        return test_id.partition("-")[0]
    return test_id if folder in _APART else file


def rank_of(test_id: str) -> int:
    """Return a number that is lower for what takes longer."""
    ranks = (rank for rank, name in enumerate(_LONGEST) if test_id.startswith(name))
    return next(ranks, len(_LONGEST))


def draw(items: list[pytest.Item], seed: int) -> list[pytest.Item]:
    """Return the tests in another order; those of a unit stay together."""
    chance = random.Random(seed)
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(unit_of(item.nodeid), []).append(item)
    mixed = chance.sample(list(units.values()), len(units))
    return [item for unit in mixed for item in chance.sample(unit, len(unit))]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drawn", type=int, metavar="SEED", help="draw the order of tests")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("drawn")
    return None if seed is None else f"the order is drawn: --drawn {seed}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("drawn")
    if seed is None:
        items.sort(key=lambda item: rank_of(item.nodeid))
    else:
        items[:] = draw(items, seed)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two a core: most of a test's time is spent waiting."""
    return 1 if any(map(os.environ.get, _GIVEN)) else min(2 * (os.cpu_count() or 1), _MOST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Any:
    """Hand out a unit at a time, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - where xdist is, alone

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = unit_of  # noqa: SLF001 - as xdist documents it, by its name
    return scheduler
