"""Secrets are told by their names, whatever they open."""

from __future__ import annotations

from typing import Any

import pytest

from app.tenants.masks import MASK, masked, not_kept, noted, same_secrets, unmasked

S3 = {"s3_server": {"host": "h", "key": "id", "secret": "s"}, "bucket": "b"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (S3, {"s3_server": {"host": "h", "key": "id", "secret": MASK}, "bucket": "b"}),
        ({"account": "a", "key": "k"}, {"account": "a", "key": MASK}),
        ({"account": "a", "sas": "sig=s"}, {"account": "a", "sas": MASK}),
        ({"host": "h", "password": "p"}, {"host": "h", "password": MASK}),
        ({"key": {"sas": {"bucket": "b"}}}, {"key": {"sas": {"bucket": "b"}}}),
    ],
)
def test_secrets_are_masked_by_their_names_and_targets_of_such_names_are_none(
    value: Any, shown: Any
) -> None:
    assert masked({"far": value}) == {"far": shown}


@pytest.mark.parametrize("name", ["key", "sas", "password"])
def test_a_masked_secret_is_kept_where_the_same_stands_beside_it(name: str) -> None:
    stored = {"far": {"account": "a", name: "stored"}}
    sent = {"far": {"account": "a", name: MASK}}
    assert not list(not_kept(sent, stored, ("targets",)))
    assert unmasked(sent, stored) == stored
    assert not same_secrets(stored, {"far": {"account": "a", name: "another"}})


def test_a_masked_secret_is_not_kept_for_another_place_nor_in_place_of_another_kind() -> None:
    stored = {"far": {"account": "a", "key": "stored"}}
    assert list(not_kept({"far": {"account": "b", "key": MASK}}, stored, ("targets",))) == [
        "targets.far.key: the stored one is for other values beside it; send the key for this one"
    ]
    assert list(not_kept({"far": {"account": "a", "sas": MASK}}, stored, ("targets",))) == [
        "targets.far.sas: there is no stored one to keep; send it"
    ]


@pytest.mark.parametrize("typed", [f"{MASK}new", f"new{MASK}", MASK * 2, MASK[1:], "***new****"])
def test_a_secret_that_was_typed_to_a_mask_is_refused(typed: str) -> None:
    stored = {"far": {"account": "a", "key": "stored"}}
    assert list(not_kept({"far": {"account": "a", "key": typed}}, stored, ("targets",))) == [
        "targets.far.key: has in it what stands for the stored one; send all of it"
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org/", "https://hooks.example.org/"),
        ("https://hooks.example.org:8443", "https://hooks.example.org:8443/"),
        ("https://hooks.example.org/services/T1/B2/x", "https://hooks.example.org/…81cabb21"),
        ("https://[x/secret", "…206dfb8e"),
        ("https://hooks.example.org/?token=x", "https://hooks.example.org/…02a1b8f4"),
    ],
)
def test_a_url_is_noted_by_its_host_and_a_hash(url: str, shown: str) -> None:
    value = {"a": {"url": url, "secret": "s", "events": ["done"]}, "n": 1}
    assert noted(value) == {"a": {"url": shown, "secret": MASK, "events": ["done"]}, "n": 1}
    assert masked(value)["a"]["url"] == url  # as who may set it sees it
