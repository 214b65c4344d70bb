"""What webhooks are sent: signatures that the public library takes, CloudEvents, URLs, secrets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import standardwebhooks

from app.delivery.outgoing import Kind
from app.delivery.webhooks import (
    EVENT_TYPES,
    GIVEN_UP_AFTER,
    DeliveryEvent,
    EventType,
    event_of,
    pause_after,
    ping,
)
from app.encoding import dumps
from app.errors import InvalidSettingError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.tenants.definitions import Definitions
from app.tenants.masks import MASK, masked
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import Configuration, StoredValue
from streams.webhooks.signature import signed
from tests.builders import make_outgoing

_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
_OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
_EVENT = DeliveryEvent(
    id=UUID(int=1),
    type="done",
    tenant="a b",
    delivery_id=UUID(int=2),
    correlation_id="c-é",
    data={"status": "DONE", "url": "s3://b/é"},
)


def _headers(*secrets: str, body: bytes) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return signed(secrets, message_id=str(_EVENT.id), at=now, body=body)


def test_the_public_library_verifies_what_is_signed_with_any_of_the_secrets() -> None:
    body = dumps(_EVENT.cloud_event(_AT))
    headers = _headers(_SECRET, _OTHER, body=body)
    for secret in (_SECRET, _OTHER):
        assert standardwebhooks.Webhook(secret).verify(body, headers)["subject"] == "c-é"
    stranger = standardwebhooks.Webhook("whsec_" + base64.b64encode(b"x" * 32).decode())
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        stranger.verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(_SECRET).verify(body + b" ", headers)


def test_the_public_library_signs_alike() -> None:
    body = b'{"a":1}'
    at = datetime(2026, 1, 1, tzinfo=UTC)
    headers = signed([_SECRET], message_id="m", at=int(at.timestamp()), body=body)
    theirs = standardwebhooks.Webhook(_SECRET).sign("m", at, body.decode())
    assert headers["webhook-signature"] == theirs


def test_an_event_is_a_cloud_event_that_tells_nothing_beyond_the_response() -> None:
    assert _EVENT.cloud_event(_AT) == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000001",
        "source": "/rs-delivery/a%20b",
        "type": "fr.cnes.regards.delivery.done",
        "subject": "c-é",
        "time": "2026-01-31T12:00:00.000000Z",
        "datacontenttype": "application/json",
        "deliveryid": "00000000-0000-0000-0000-000000000002",
        "data": {"status": "DONE", "url": "s3://b/é"},
    }
    traced = replace(_EVENT, trace="00-a-b-01").cloud_event(_AT)
    assert traced["traceparent"] == "00-a-b-01"
    assert json.loads(dumps(traced)) == traced


@pytest.mark.parametrize(
    ("status", "event"),
    [("GRANTED", "accepted"), ("DENIED", "denied"), ("DONE", "done"), ("ERROR", "error")],
)
def test_each_response_is_an_event_with_its_id_and_body(status: str, event: str) -> None:
    message = make_outgoing(kind=Kind.RESPONSE, body={"status": status, "x": 1})
    found = event_of(message)
    assert found is not None
    assert (found.id, found.type, found.data) == (message.message_id, event, message.body)
    assert found.type in EVENT_TYPES


def test_what_is_no_response_is_no_event() -> None:
    assert event_of(make_outgoing(kind=Kind.TRANSFER, body={"status": "DONE"})) is None
    assert event_of(make_outgoing(kind=Kind.RESPONSE, body={"status": "LATER"})) is None


def test_a_ping_is_another_event_each_time_and_nothing_that_can_be_asked_for() -> None:
    assert ping("t").id != ping("t").id
    assert ping("t").type == EventType.PING
    assert EventType.PING not in EVENT_TYPES


def test_pauses_grow_and_add_up_to_the_three_days_after_which_an_event_is_given_up() -> None:
    pauses = [pause_after(tries) for tries in range(1, 12)]
    assert pauses == sorted(pauses)
    assert pauses[0] == timedelta(seconds=5)
    assert sum(pauses[:9], timedelta()) >= GIVEN_UP_AFTER > sum(pauses[:8], timedelta())


# The setting.


def _parse(value: Any, current: Any = None, **settings: Any) -> Any:
    given = Settings(tenants=("t",), **settings)
    return Definitions(KINDS).parse("webhooks", value, current=current or {}, settings=given)


def _entry(url: str = "https://hooks.example.org/x?y=1", **more: Any) -> dict[str, Any]:
    return {"ops": {"url": url, "secret": _SECRET, **more}}


def _reasons(value: Any, current: Any = None, **settings: Any) -> str:
    with pytest.raises(InvalidSettingError) as refused:
        _parse(value, current, **settings)
    return str(refused.value)


def test_a_webhook_is_taken_with_what_it_asks_for() -> None:
    parsed = _parse(_entry(events=["done", "error"], previous_secret=_OTHER, enabled=False))
    tenants = ConfiguredTenants(Settings(tenants=("t",)), KINDS)
    tenants.apply(Configuration(settings={"t": {"webhooks": StoredValue(value=parsed, version=1)}}))
    (webhook,) = tenants.webhooks()
    assert (webhook.tenant, webhook.name) == ("t", "ops")
    assert webhook.secrets == (_SECRET, _OTHER)
    assert webhook.events == frozenset({"done", "error"})
    assert not webhook.usable
    assert _SECRET not in repr(webhook)
    assert replace(webhook, enabled=True).usable
    # Of secrets that no key opens nothing is signed, hence nothing sent.
    assert not replace(webhook, enabled=True, secrets=("", _OTHER)).usable


def test_a_setting_that_a_later_version_has_written_otherwise_is_passed_over() -> None:
    tenants = ConfiguredTenants(Settings(tenants=("t",)), KINDS)
    value = {"new": ["x"], "other": {"url": ["x"]}, "old": _parse(_entry())["ops"]}
    tenants.apply(Configuration(settings={"t": {"webhooks": StoredValue(value=value, version=1)}}))
    (webhook,) = tenants.webhooks()
    assert (webhook.name, webhook.host) == ("old", "hooks.example.org")
    assert replace(webhook, url="https://[x/").host == ""


def test_secrets_are_masked_and_kept_by_their_mask_while_the_url_stays() -> None:
    stored = _parse(_entry(previous_secret=_OTHER))
    shown = masked(stored)
    assert shown["ops"]["secret"] == shown["ops"]["previous_secret"] == MASK
    assert shown["ops"]["url"] == stored["ops"]["url"]
    shown["ops"]["events"] = ["done"]
    assert _parse(shown, stored) == {"ops": stored["ops"] | {"events": ["done"]}}
    shown["ops"]["url"] = "https://elsewhere.example.org/"
    assert "the stored one is for another url" in _reasons(shown, stored)
    assert "there is no stored one to keep" in _reasons(_entry(secret=MASK))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://hooks.example.org/", "must begin with https://"),
        ("https://user:password@hooks.example.org/", "user or a password"),
        ("https://hooks.example.org/#x", "fragment"),
        ("https://hooks.example.org:0/", "port 0"),
        ("https://hooks.example.org:x/", "can't be read"),
        ("https://hooks.example.org/ x", "in ASCII"),
        ("https://" + "x" * 3000, "2048"),
        ("https:///x", "host"),
        ("https://a\\@b.example/", "user or a password"),
        ("http://hooks.example.org/", "must begin with https://"),
        ("https://127.0.0.1/", "loopback"),
        ("https://2130706433/", "must be an IP address, or a host name"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:127.0.0.1]/", "loopback"),
        ("https://localhost/", "loopback"),
        ("https://169.254.169.254/latest/", "metadata"),
        ("https://metadata.google.internal/", "metadata"),
        ("https://169.254.1.1/", "link-local"),
        ("https://0.0.0.0/", "no address of a single host"),
    ],
)
def test_a_url_that_is_none_or_leads_where_no_webhook_may_be_is_refused(
    url: str, reason: str
) -> None:
    said = _reasons(_entry(url))
    assert reason in said
    assert "password@" not in said


def test_the_operator_says_on_which_hosts_webhooks_may_be() -> None:
    allowed: dict[str, Any] = {
        "webhook_allowed_hosts": ("hooks.example.org", "*.lan", "10.0.0.0/8", "127.0.0.1/32")
    }
    for url in (
        "http://hooks.example.org/",
        "https://a.lan/",
        "http://10.1.2.3:8080/",
        "http://127.0.0.1:9/",
    ):
        assert _parse(_entry(url), **allowed)["ops"]["url"] == url
    assert "tenants may have webhooks on" in _reasons(_entry("https://8.8.8.8/"), **allowed)
    assert "DELIVERY_WEBHOOK_ALLOWED_HOSTS" in _reasons(_entry("http://a.lan/"), **allowed)
    assert _parse(_entry("http://a.example/"), development=True)


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "whsec_",
        "whsec_" + base64.b64encode(b"s" * 23).decode(),
        "whsec_" + base64.b64encode(b"s" * 65).decode(),
        "whsec_" + "ä" * 40,
        base64.b64encode(b"s" * 32).decode(),
    ],
)
def test_a_secret_that_the_library_would_not_take_is_refused_and_not_told(secret: str) -> None:
    said = _reasons(_entry(secret=secret))
    assert "webhooks.ops.secret: must be whsec_ and 24 to 64 bytes in base64" in said
    assert secret[10:] not in said or len(secret) <= 10


def test_other_mistakes_are_named() -> None:
    assert "events" in _reasons(_entry(events=["ping"]))
    assert "webhooks" in _reasons({"a/b": _entry()["ops"]})
    assert "secret" in _reasons({"ops": {"url": "https://a.example/"}})
    many = {f"w{number}": _entry()["ops"] for number in range(11)}
    assert "10" in _reasons(many)
