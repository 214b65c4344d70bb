"""PostgreSQL: the truth about every delivery."""

from app.store.arrivals import PostgresArrivals
from app.store.attention import PostgresAttention
from app.store.audit import PostgresAudit
from app.store.checkpoints import PostgresCheckpoints
from app.store.configuration import PostgresConfiguration
from app.store.contents import PostgresContents
from app.store.dead_letters import PostgresDeadLetters
from app.store.hints import PostgresWorkNews
from app.store.history import PostgresHistory
from app.store.janitor import PostgresJanitor
from app.store.leader import Leader, alone
from app.store.leases import PostgresLeases
from app.store.migrate import migrate
from app.store.outbox import PostgresOutbox
from app.store.parameters import parameters_of
from app.store.pool import open_pool
from app.store.targets import PostgresTargets
from app.store.tracking import PostgresTracking
from app.store.transactions import PostgresStore
from app.store.webhooks import PostgresWebhooks
from app.store.workers import PostgresWorkers

__all__ = [
    "Leader",
    "PostgresArrivals",
    "PostgresAttention",
    "PostgresAudit",
    "PostgresCheckpoints",
    "PostgresConfiguration",
    "PostgresContents",
    "PostgresDeadLetters",
    "PostgresHistory",
    "PostgresJanitor",
    "PostgresLeases",
    "PostgresOutbox",
    "PostgresStore",
    "PostgresTargets",
    "PostgresTracking",
    "PostgresWebhooks",
    "PostgresWorkNews",
    "PostgresWorkers",
    "alone",
    "migrate",
    "open_pool",
    "parameters_of",
]
