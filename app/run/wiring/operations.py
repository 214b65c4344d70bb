"""What is made of the database and the tenants' settings alone: nothing else is opened for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.run.wiring.database import PostgresDatabase, open_database
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.usecases.pausing import Pausing
from app.usecases.target_states import TargetStates


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What a command needs that pauses, or looks at targets. `Services` have it, and more."""

    database: PostgresDatabase
    configuration: ConfigurationParts

    @property
    def settings(self) -> Settings:
        """What it was opened by."""
        return self.database.settings

    @property
    def pausing(self) -> Pausing:
        """What pauses transfers, drains workers, and resumes them."""
        return Pausing(
            store=self.configuration.store,
            configure=self.configuration.configure,
            tenants=self.configuration.tenants,
            workers=self.database.tracking.workers,
        )

    @property
    def target_states(self) -> TargetStates:
        """What tells how it goes with each target."""
        return TargetStates(
            seen=self.database.targets,
            troubles=self.database.attention,
            tenants=self.configuration.tenants,
        )


@contextlib.asynccontextmanager
async def open_operations(settings: Settings) -> AsyncIterator[Operations]:
    """Open what one command needs. Raises ConfigurationError, StoreUnavailableError."""
    async with open_database(settings) as database:
        yield Operations(
            database=database, configuration=await open_configuration(settings, database.pool)
        )
