"""The store in memory: the twin of PostgreSQL, for tests and simulations.

It keeps the promises that PostgreSQL keeps, and passes the same tests (`tests/store`). A
transaction is committed as a whole or not at all, and sees what was committed before each of
its statements. Rows and names are locked, waited for and skipped alike; what comes first, what
is fair, when a lease runs out and what is compared before something is set is the same. All of
it by a clock that is given, in one thread, in an order that depends on nothing but the order of
the calls.

It does not survive its process, and its columns have no types that a value might not fit.

database       the tables, the clock, the transactions
tables, rows   what is committed
session        what a transaction sees, locks and changes
locks          who waits for whom
deliveries     what triggers and references do
statements     what is one statement of a transaction
transaction    `UnitOfWork`
store          `DeliveryStore`
leases         `Leases`
checkpoints    `Checkpoints`
arrivals       `Arrivals`
outbox         `Outbox`
listening      `WorkNews`
contents       `Contents`
configuration  `ConfigurationStore`
audit          `AuditTrail`
attention      `Troubles`
targets        `TargetsSeen`
history        `Histories`
tracking       `Tracking`, `Changes`, `Overview`
webhooks       `WebhookOutbox`
dead_letters   `DeadLetterTable`
"""

from app.store.memory.arrivals import MemoryArrivals
from app.store.memory.attention import MemoryAttention
from app.store.memory.audit import MemoryAudit
from app.store.memory.checkpoints import MemoryCheckpoints
from app.store.memory.configuration import MemoryConfiguration
from app.store.memory.contents import MemoryContents
from app.store.memory.database import MemoryDatabase
from app.store.memory.dead_letters import MemoryDeadLetters
from app.store.memory.history import MemoryHistory
from app.store.memory.leases import MemoryLeases
from app.store.memory.listening import MemoryWorkNews
from app.store.memory.outbox import MemoryOutbox
from app.store.memory.store import MemoryStore
from app.store.memory.targets import MemoryTargets
from app.store.memory.tracking import MemoryTracking, MemoryWorkers
from app.store.memory.webhooks import MemoryWebhooks

__all__ = [
    "MemoryArrivals",
    "MemoryAttention",
    "MemoryAudit",
    "MemoryCheckpoints",
    "MemoryConfiguration",
    "MemoryContents",
    "MemoryDatabase",
    "MemoryDeadLetters",
    "MemoryHistory",
    "MemoryLeases",
    "MemoryOutbox",
    "MemoryStore",
    "MemoryTargets",
    "MemoryTracking",
    "MemoryWebhooks",
    "MemoryWorkNews",
    "MemoryWorkers",
]
