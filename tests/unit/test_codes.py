"""The catalogue: each error has a code, each code a stanza, and none is there for nothing."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.codes import CATALOGUE, Code, Waiting, fails_again, known
from app.errors import (
    DeliveryError,
    InterventionError,
    PermanentError,
    RetryableError,
    WrongBytesError,
)
from app.run.wiring.regards import signer_of
from app.settings import Settings
from compose.embedded.stack import ROOT

PACKAGES = ("app", "streams", "sinks", "web")
# What only gathers others; RetryableError itself is raised for what was not foreseen.
ROOTS = {DeliveryError, RetryableError, PermanentError, WrongBytesError, InterventionError}


def every(error: type[DeliveryError]) -> Iterator[type[DeliveryError]]:
    """Return all errors below one."""
    for child in error.__subclasses__():
        yield child
        yield from every(child)


def sources() -> Iterator[Path]:
    return chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES)


def named() -> set[str]:
    """Return the codes that the program names outside of the catalogue."""
    return {
        node.attr
        for path in sources()
        if path != ROOT / "app" / "codes.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Code"
    }


@pytest.fixture(scope="module")
def errors() -> set[type[DeliveryError]]:
    """All errors of the service, wherever they are: each module is imported."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if not found.name.endswith("__main__") and not found.name.startswith("web.client"):
                importlib.import_module(found.name)
    return {error for error in every(DeliveryError) if error.__module__.startswith(PACKAGES)}


def test_each_error_has_a_code_of_the_catalogue(errors: set[type[DeliveryError]]) -> None:
    assert len(errors) > 60
    without = {error.__name__ for error in errors - ROOTS if error.code is Code.FAULT}
    assert not without, "give it a code: its own, or that of what it is a kind of"


def test_each_code_has_one_stanza_and_each_stanza_says_everything() -> None:
    assert list(CATALOGUE) == list(Code), "a stanza a code, in the order of the codes"
    for code, stanza in CATALOGUE.items():
        assert not stanza.title.endswith("."), code
        for said in (stanza.means, stanza.do, stanza.lost):
            assert said.endswith((".", "(docs/settings.md). Then ask again.")), (code, said)


def test_what_a_delivery_waits_for_or_ends_with_is_told_in_its_users_words() -> None:
    of_deliveries = list(Code)[: list(Code).index(Code.FAULT) + 1]
    told = {code for code, stanza in CATALOGUE.items() if stanza.user and stanza.user_does}
    assert told == set(of_deliveries)
    for code in of_deliveries:
        stanza = CATALOGUE[code]
        for said in (stanza.user or "", stanza.user_does or ""):
            assert said.endswith("."), (code, said)
            assert not re.search(r"rs-order|`|tenant|worker|S3|docs/", said), (code, said)


def test_where_rs_order_takes_no_token_the_secret_that_signs_them_is_named() -> None:
    secret = "one of thirty-two characters, or more"
    signer = signer_of(Settings(rs_order_token_secret=SecretStr(secret)))
    assert not signer.sign_with(secret), "it signs with another"
    assert re.findall(r"DELIVERY_\w+", CATALOGUE[Code.SOURCE_CREDENTIALS].do) == [
        "DELIVERY_RS_ORDER_TOKEN_SECRET"
    ]


def test_no_stanza_is_of_a_code_that_nothing_has() -> None:
    assert {code.value for code in Code} == named()


def test_a_code_of_a_later_version_is_not_known_and_stops_nothing() -> None:
    assert known("OF_LATER") is None
    assert known(None) is None
    assert not fails_again("OF_LATER")
    assert not fails_again(None)


def test_only_what_waiting_does_not_help_fails_again() -> None:
    failing = {code for code in Code if fails_again(code)}
    assert Code.TARGET_REFUSED in failing
    assert Code.CANCELLED not in failing
    assert Code.EXPIRED not in failing
    assert all(CATALOGUE[code].waiting is Waiting.NO for code in failing)
