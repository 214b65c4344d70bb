"""The HTTP application on a database of its own, and callers with tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel

from app.delivery.targets import Target, TargetCheck
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.store import (
    Leader,
    PostgresAttention,
    PostgresAudit,
    PostgresDeadLetters,
    PostgresHistory,
    PostgresStore,
    PostgresTargets,
    PostgresTracking,
    PostgresWebhooks,
)
from app.store.schema import PostgresSchema
from app.tenants.vault import make_key
from app.tenants.webhooks import callbacks_of
from app.usecases.delivered import Delivered
from app.usecases.dry_run import DryRuns
from app.usecases.intervene import Interventions
from app.usecases.links import Links
from app.usecases.many import Many
from app.usecases.pausing import Pausing
from app.usecases.quotas import Quotas
from app.usecases.target_states import TargetStates
from app.views.stalls import Stalls
from app.waiting.wakeup import Wakeup
from sinks import formats
from sinks.stores.kinds import Stores
from sinks.stores.memory import MemoryObjectStore
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.target import S3Target
from streams.operators.dead_letters import BrokerDesk
from streams.regards.users import AnyUser
from streams.webhooks.sender import HttpWebhooks
from tests.builders import GivenTenants, make_token
from tests.integration.conftest import Deliveries
from web.api.attention import AttentionApi
from web.api.configuration import ConfigurationApi
from web.api.console import Console
from web.api.content import ContentApi
from web.api.dead_letters import DeadLettersApi
from web.api.deliveries import DeliveriesApi
from web.api.dry_runs import DryRunsApi
from web.api.events import EventsApi, StreamLimits
from web.api.health import Check, Health
from web.api.history import HistoryApi
from web.api.limits import LimitsApi
from web.api.maintenance import OperationApi
from web.api.many import ManyApi
from web.api.metrics import MetricsApi
from web.api.pauses import PausesApi
from web.api.quota import QuotaApi
from web.api.schema import SchemaApi
from web.api.settings import SettingsApi
from web.api.target_states import TargetStatesApi
from web.api.targets import TargetsApi
from web.api.webhooks import WebhooksApi
from web.api.workers import WorkersApi
from web.endpoint import Endpoint, Handler
from web.feed import Feed
from web.guard.auth import TokenVerifier
from web.guard.checks import Checks
from web.guard.downloads import Downloads
from web.guard.gate import Gate
from web.guard.limits import CallerLimits, RateLimit, Turns
from web.site import CONNECTION_LIMITS, Parts, create_site

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-HS512-0123456789-abcdef"
TENANT = "sentinel"
PLENTY = CallerLimits(
    rate=RateLimit(1e6, burst=1e6),
    requests=Turns(1000),
    streams=Turns(1000),
    all_streams=Turns(1000),
)

MakeClient = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


def token(*, key: str = SECRET, **changes: Any) -> str:
    """Return a token of an administrator, who is let in."""
    return make_token(key, **changes)


def bearer(**changes: Any) -> dict[str, str]:
    """Return the header of a caller."""
    return {"Authorization": f"Bearer {token(**changes)}"}


@pytest.fixture(autouse=True)
def _no_tries_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few a minute stay few, however long a machine takes for them."""
    monkeypatch.setattr("web.guard.limits.time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.fixture
def web_settings(settings: Settings) -> Settings:
    """Settings with two tenants and a key."""
    return settings.model_copy(
        update={
            "tenants": (TENANT, "swot"),
            "secret_keys": (_Key(make_key()),),
            # As the contract has it, a tenant sets its bucket; what holds without is in
            # test_places.py.
            "tenants_choose_buckets": True,
        }
    )


class _Key(str):
    """What a SecretStr is to those who ask it."""

    __slots__ = ()

    def get_secret_value(self) -> str:
        return str(self)


@pytest.fixture
async def configuration(pool: asyncpg.Pool, web_settings: Settings) -> ConfigurationParts:
    """What settings are kept with, on an empty database."""
    return await open_configuration(web_settings, pool)


@pytest.fixture
def deliveries(pool: asyncpg.Pool, web_settings: Settings) -> Deliveries:
    """Deliveries in the database that the application reads."""
    return Deliveries(pool, web_settings)


@pytest.fixture
def tenants(web_settings: Settings) -> GivenTenants:
    """The tenants, for a part of the application that is given what holds for them."""
    return GivenTenants(web_settings)


class Api:
    """Calls as an administrator of a tenant, unless told otherwise."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client

    async def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **arguments: Any
    ) -> ClientResponse:
        caller = {name: arguments.pop(name) for name in ("tenant", "role") if name in arguments}
        return await self.client.request(
            method, path, headers=bearer(**caller) | (headers or {}), **arguments
        )

    async def put(self, name: str, value: Any, **arguments: Any) -> ClientResponse:
        body = {"name": name, "value": value}
        return await self.call("PUT", f"/settings/{name}", json=body, **arguments)

    async def value(self, name: str, **arguments: Any) -> Any:
        answer = await self.call("GET", "/settings", params={"names": name}, **arguments)
        (setting,) = await answer.json()
        return setting["content"]["value"]


async def probe(target: S3Target) -> list[TargetCheck]:
    """Try a target as a tenant does, with clients of its own: none is left open."""
    async with open_store() as sink:
        return await Prober(sink.clients).probe(target)


async def _answers(_target: Target) -> None:
    """Take any target for good."""


async def _finds_nothing(_target: Target, _key: str) -> None:
    """Find no object anywhere."""


def parts_for(
    configuration: ConfigurationParts,
    checks: dict[str, Check] | None = None,
    **changes: Any,
) -> Parts:
    """Return what an application is made of, but for `changes`: of that, or of its ingredients."""
    has = _ingredients(configuration) | changes
    configure = configuration.configure
    health = has.pop("health", Health(checks or {}))
    audit, tracking, overview = has.pop("audit"), has.pop("tracking"), has.pop("overview")
    progress, probe = has.pop("progress"), has.pop("probe")
    stalls = Stalls(tracking, reports=has.pop("reports"), report_of=progress)
    tenants = configuration.tenants
    store = PostgresStore(configuration.pool, Wakeup())
    quotas = Quotas(store=store, tenants=tenants)
    interventions = has.pop("interventions")
    many = Many(store=store, tracking=tracking, interventions=interventions)
    parts: dict[str, Any] = {
        "settings": SettingsApi(configure, Checks(probe)),
        "configuration": ConfigurationApi(configure, configuration.store, health, audit),
        "operation": OperationApi(configure, audit),
        "deliveries": DeliveriesApi(tracking, interventions, stalls),
        "many": ManyApi(many),
        "dry_runs": DryRunsApi(
            DryRuns(
                tracking=tracking,
                tenants=tenants,
                users=has.pop("users"),
                find=has.pop("find"),
                suffix_of=formats.suffix_of,
                quotas=quotas,
            ),
            Checks(has.pop("trial", probe)),
        ),
        "limits": LimitsApi(tenants),
        "quota": QuotaApi(quotas),
        "content": has.pop("content"),
        "events": EventsApi(
            has.pop("feed"), tracking, has.pop("changes"), progress, limits=has.pop("streams")
        ),
        "dead_letters": DeadLettersApi(has.pop("dead_letters")),
        "attention": AttentionApi(
            PostgresAttention(configuration.pool), served=lambda: tenants.worked_for
        ),
        "target_states": TargetStatesApi(
            TargetStates(
                seen=PostgresTargets(configuration.pool),
                troubles=PostgresAttention(configuration.pool),
                tenants=tenants,
            ),
            tenants,
        ),
        "history": HistoryApi(
            PostgresHistory(configuration.pool),
            kept=timedelta(days=7),
            tenants=lambda: tenants.worked_for,
        ),
        "workers": WorkersApi(overview, stalls),
        "schema": SchemaApi(PostgresSchema(configuration.pool).seen, overview),
        "metrics": MetricsApi(
            overview,
            troubles=PostgresAttention(configuration.pool),
            pauses=tenants.pauses.all,
            tenants=lambda: tenants.names,
        ),
        "pauses": PausesApi(
            Pausing(
                store=configuration.store,
                configure=configure,
                tenants=tenants,
                workers=overview.workers,
            )
        ),
        "health": health,
    }
    return Parts(**parts | has)


def _ingredients(configuration: ConfigurationParts) -> dict[str, Any]:
    pool, tenants = configuration.pool, configuration.tenants
    tracking = PostgresTracking(pool)
    return {
        "audit": PostgresAudit(pool),
        "gate": Gate(TokenVerifier(secret=SECRET, public_key=""), tenants, limits=PLENTY),
        "webhooks": WebhooksApi(
            tenants,
            PostgresWebhooks(pool),
            HttpWebhooks(callbacks_of(tenants.static)),
            PostgresAudit(pool),
        ),
        "targets": TargetsApi(tenants, look=_answers, trouble=lambda _target: None),
        "probe": probe,
        "find": _finds_nothing,
        "users": AnyUser(),
        "tracking": tracking,
        "changes": tracking,
        "overview": tracking,
        "interventions": Interventions(
            store=PostgresStore(pool, Wakeup()),
            tracking=tracking,
            tenants=tenants,
            users=AnyUser(),
        ),
        "feed": Feed(tracking, list),
        "content": ContentApi(
            tracking,
            delivered := Delivered(
                tracking=tracking, tenants=tenants, objects=Stores({"memory": MemoryObjectStore()})
            ),
            Links(delivered=delivered, instead="take it from there"),
            PostgresAudit(pool),
            Downloads(0),
        ),
        "streams": StreamLimits(),
        "progress": lambda _delivery: None,
        "reports": list,
        "dead_letters": BrokerDesk(
            tenants.static,
            table=PostgresDeadLetters(pool),
            leading=Leader(pool).leading,
            tenants=tenants,
        ),
        "console": Console(None),
    }


class Described:
    """A gate behind which every answer is held against the model that describes it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def before(self, endpoint: Endpoint) -> Handler:
        handler = self._gate.before(endpoint)

        async def described(request: web.Request) -> web.StreamResponse:
            answer = await handler(request)
            check_answer(endpoint, answer)
            return answer

        return described


def check_answer(endpoint: Endpoint, answer: web.StreamResponse) -> None:
    """Raise ValidationError where an answer has a field that its model has not, or lacks one."""
    described = endpoint.responses.get(answer.status, {}).get("content", {})
    model = described.get(answer.content_type, {}).get("schema")
    if isinstance(model, type) and issubclass(model, BaseModel):
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        model.model_validate_json(answer.body)


async def serve(make_client: MakeClient, parts: Parts) -> Api:
    """Serve an application with the limits of the real server; its answers are checked."""
    gate: Any = Described(parts.gate)
    server = TestServer(create_site(replace(parts, gate=gate)))
    await server.start_server(**CONNECTION_LIMITS)
    return Api(await make_client(server))


@pytest.fixture
async def api(configuration: ConfigurationParts, aiohttp_client: MakeClient) -> Api:
    """The application, and its administrator."""
    return await serve(aiohttp_client, parts_for(configuration))
