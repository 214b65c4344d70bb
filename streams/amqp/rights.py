"""What a user of RabbitMQ needs to be the service, and no more.

`delivery topology permissions` prints it, `delivery doctor` tries it without moving a message.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from streams.amqp import names
from streams.amqp.topology import QUEUES
from streams.channels import MISSPELT_RESPONSES, NOTICES, OUTGOING, RESPONSES

DEFAULT_EXCHANGE = "amq.default"  # what permissions call it

_READ_QUEUES = tuple(queue for queue, _ in QUEUES)
DEAD_LETTERS = (*map(names.dead_letters_of, _READ_QUEUES), names.DEAD_LETTER_QUEUE)

# What the service publishes to, the last to put dead letters back.
WRITES = (
    *(channel.exchange.name for channel in OUTGOING if not channel.optional),
    names.DEAD_LETTER_EXCHANGE,
    DEFAULT_EXCHANGE,
)
READS = (*_READ_QUEUES, *DEAD_LETTERS)


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """Names of exchanges and queues, for each of RabbitMQ's three rights."""

    configure: Sequence[str]
    write: Sequence[str]
    read: Sequence[str]

    @property
    def patterns(self) -> tuple[str, str, str]:
        """The three regular expressions, as `rabbitmqctl set_permissions` takes them."""
        return _pattern(self.configure), _pattern(self.write), _pattern(self.read)


def needed(*, declares: bool, notices: bool = False) -> Permissions:
    """Return what the service needs; more where it declares exchanges and queues itself.

    What tenants may switch on is among it; `notices` are those to operators.
    """
    told = (*names.OPTIONAL_EXCHANGES, *((NOTICES.exchange.name,) if notices else ()))
    write = (*WRITES, *told)
    if not declares:
        return Permissions(configure=(), write=write, read=READS)
    return Permissions(
        configure=(names.DEAD_LETTER_EXCHANGE, *names.EXCHANGES, *told, *READS),
        # To bind is to write to what is bound, and to read from where its messages come.
        write=(*write, MISSPELT_RESPONSES, *READS),
        read=(
            *READS,
            RESPONSES.exchange.name,
            names.DEAD_LETTER_EXCHANGE,
            *(exchange for _, exchange in QUEUES),
        ),
    )


def _pattern(wanted: Sequence[str]) -> str:
    return f"^{_alternatives(wanted)}$" if wanted else "^$"


def _alternatives(wanted: Sequence[str]) -> str:
    """Join names (of letters, digits, dots and dashes), each common beginning written once."""
    rests: dict[str, list[str]] = {}
    for name in wanted:
        head, _, rest = name.partition(".")
        rests.setdefault(head, []).append(rest)
    found = []
    for head, tails in rests.items():
        longer = [tail for tail in tails if tail]
        tail = rf"\.{_alternatives(longer)}" if longer else ""
        found.append(head + (f"({tail})?" if longer and "" in tails else tail))
    return found[0] if len(found) == 1 else f"({'|'.join(found)})"


def command(user: str, url: str, permissions: Permissions) -> str:
    """Return what an administrator of RabbitMQ types."""
    vhost = unquote(urlsplit(url).path.removeprefix("/")) or "/"
    start = f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)}"
    return " \\\n  ".join([start, *map(shlex.quote, permissions.patterns)])
