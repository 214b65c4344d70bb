"""What is open where deliveries are looked at and steered: in the HTTP server, for commands."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self

from app.delivery.ports import Users
from app.run.wiring.database import open_database, open_migrated, open_web_pool
from app.run.wiring.operations import Operations
from app.run.wiring.regards import open_users, signer_of, users_asked_later
from app.run.wiring.targets import open_targets
from app.run.wiring.tenants import open_configuration
from app.settings import Settings
from app.usecases.delivered import Delivered
from app.usecases.dry_run import DryRuns
from app.usecases.intervene import Interventions
from app.usecases.links import Links
from app.usecases.many import Many
from app.usecases.quotas import Quotas
from sinks.formats import FORMATS, suffix_of
from sinks.stores.kinds import Stores
from streams.regards.tokens import TokenSigner

_MEDIA_TYPES = {each.suffix: each.media_type for each in FORMATS}


@dataclass(frozen=True, kw_only=True)
class Services(Operations):
    """What is open. Of a worker it is a `WorkerServices`, which has more."""

    objects: Stores
    users: Users
    signer: TokenSigner  # of tokens for REGARDS

    @property
    def interventions(self) -> Interventions:
        """What may be done to deliveries from outside."""
        return Interventions(
            store=self.database.store,
            tracking=self.database.tracking,
            tenants=self.configuration.tenants,
            users=self.users,
        )

    @property
    def many(self) -> Many:
        """What does the same to many of them."""
        return Many(
            store=self.database.store,
            tracking=self.database.tracking,
            interventions=self.interventions,
        )

    @property
    def quotas(self) -> Quotas:
        """What tells what is left of quotas, and lets through what waits for one."""
        return Quotas(store=self.database.store, tenants=self.configuration.tenants)

    @property
    def dry_runs(self) -> DryRuns:
        """What tells of requests what would become of them, and does nothing of it."""
        return DryRuns(
            tracking=self.database.tracking,
            tenants=self.configuration.tenants,
            users=self.users,
            find=self.objects.find,
            suffix_of=suffix_of,
            quotas=self.quotas,
        )

    @contextlib.asynccontextmanager
    async def asking_users(self) -> AsyncIterator[Self]:
        """Give the same, that asks rs-admin itself; a worker does, anyway."""
        async with open_users(self.settings, self.signer) as users:
            yield replace(self, users=users)

    @property
    def delivered(self) -> Delivered:
        """What finds what was delivered."""
        return Delivered(
            tracking=self.database.tracking,
            tenants=self.configuration.tenants,
            objects=self.objects,
            media_types=_MEDIA_TYPES,
        )

    @property
    def links(self) -> Links:
        """What makes links to that."""
        return Links(delivered=self.delivered, instead=_instead(self.settings))

    @contextlib.asynccontextmanager
    async def for_http(self) -> AsyncIterator[Self]:
        """Give the same for the HTTP server, over connections of its own to the database."""
        async with open_web_pool(self.settings) as pool:
            yield replace(
                self,
                database=self.database.over(pool),
                configuration=self.configuration.over(pool),
            )


def _instead(settings: Settings) -> str:
    """Return what is to be done where a store makes no links, in words."""
    if settings.content_downloads:
        return "download it through this service (GET /deliveries/{id}/content)"
    return (
        "take it from there, or ask the operator to let it be downloaded through this service "
        "(DELIVERY_CONTENT_DOWNLOADS)"
    )


@contextlib.asynccontextmanager
async def open_services(settings: Settings, *, stays: bool = False) -> AsyncIterator[Services]:
    """Open what deliveries are looked at and steered with, without a worker.

    A process that `stays` may migrate the database; a command does not.
    """
    opened = open_migrated(settings) if stays else open_database(settings)
    async with opened as database:
        configuration = await open_configuration(settings, database.pool)
        if stays:
            await configuration.configure.refer_to_the_deployments_key()
        async with open_targets(settings, in_use=configuration.tenants.targets) as objects:
            yield Services(
                database=database,
                configuration=configuration,
                objects=objects,
                users=users_asked_later(settings),
                signer=signer_of(settings),
            )
