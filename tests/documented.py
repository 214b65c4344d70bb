"""What docs and console say of the program and is made of it: `make docs` writes it.

Each part stands between two lines that name it; what is around them is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from app.codes import CATALOGUE, Code
from app.delivery.formats import FORMATS
from app.roles import MEANT
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store.rights import NEEDED as DATABASE_RIGHTS
from app.tenants.definitions import Definitions
from app.views import attention
from compose.embedded import s3
from compose.embedded.s3_servers import MAKES
from compose.rs_order.faults import Faults
from compose.rs_order.states import FILE_MOVES
from compose.rs_order.switches import Switches
from sinks.stores.azure.rights import NEEDED as AZURE_RIGHTS
from sinks.stores.gcs.rights import NEEDED as GCS_RIGHTS
from sinks.stores.s3.abilities import ABILITIES
from sinks.stores.s3.rights import NEEDED as S3_RIGHTS
from streams.amqp import rights as rabbitmq
from tests.pages import (
    commands,
    drawing,
    figures,
    http_api,
    man,
    messages,
    pictures,
    states,
)
from tests.recorded.today.http import guarded

ROOT = Path(__file__).resolve().parents[1]
_PART = re.compile(
    r"^(?P<begin>\S+ made by `make docs`: (?P<name>[^\n]+?)(?: -->)?\n)"
    r"(?P<text>.*?\n)"
    r"(?P<end>\S+ end of (?P=name)(?: -->)?)$",
    re.MULTILINE | re.DOTALL,
)
_BUCKET = "deliveries"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _roles() -> str:
    return _table(
        ("", *MEANT),
        (
            (
                f"`{endpoint.method} {endpoint.path}`",
                *("yes" if role in endpoint.roles else "" for role in MEANT),
            )
            for endpoint in guarded()
            if endpoint.roles is not None
        ),
    )


def _tenant_settings() -> str:
    return _table(
        ("setting", "value", "meaning"),
        (
            (f"`{setting.name}`", setting.takes, setting.description)
            for setting in Definitions(KINDS)
        ),
    )


def _console_settings() -> str:
    definitions = list(Definitions(KINDS))
    schemas = {setting.name: setting.type.json_schema() for setting in definitions}
    shared: dict[str, Any] = {}
    for schema in schemas.values():
        shared |= schema.pop("$defs", {})
    settings = {
        setting.name: {
            "title": setting.title,
            **({"tested": True} if setting.tries is not None else {}),
            "schema": _of_form(schemas[setting.name]),
        }
        for setting in definitions
    }
    return (
        f"export const SETTINGS = {_by_name(settings)};\n"
        f"export const SHARED = {_by_name(_of_form(shared))};\n"
    )


def _by_name(entries: Mapping[str, Any]) -> str:
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


_OF_MASKS = re.compile(r"(Reads `\*+`; [^.]*\.|Masked as it\.) ?")


def _of_form(schema: Any) -> Any:
    """Return a schema with what forms need alone, as it is loaded with the page.

    What may be null is `optional`; of a pattern there is that a text must not be empty.
    """
    if isinstance(schema, list):
        return [_of_form(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    short = dict(schema)
    match short.pop("anyOf", None):
        case [kind, {"type": "null"}]:
            short |= kind | {"optional": True}
    if short.pop("pattern", None) is not None:
        short["minLength"] = 1
    if "properties" in short:
        short.pop("description", None)
    if short.get("format") == "password":
        # What the API says of masks is said by the field itself.
        short["description"] = _OF_MASKS.sub("", short["description"]).strip()
    return {
        name: _of_form(inner)
        for name, inner in short.items()
        if inner is not False
        and inner is not None
        and not (name == "title" and isinstance(inner, str))
        and (name, inner) not in (("type", "object"), ("type", "string"))  # it is seen, or usual
    }


def _rabbitmq_rights(*, declares: bool) -> str:
    url = Settings.model_fields["amqp_url"].get_default().get_secret_value()
    needed = rabbitmq.needed(declares=declares)
    return _code("sh", rabbitmq.command("delivery", url, needed))


def _database_rights() -> str:
    return _table(
        ("table or sequence", "rights"),
        ((f"`{name}`", ", ".join(rights)) for name, rights in DATABASE_RIGHTS.items()),
    )


def _s3_policy() -> str:
    statements = [
        {
            "Sid": sid,
            "Effect": "Allow",
            "Action": [right.name for right in S3_RIGHTS if right.of_bucket is of_bucket],
            "Resource": f"arn:aws:s3:::{resource}",
        }
        for sid, of_bucket, resource in (
            ("Bucket", True, _BUCKET),
            ("Objects", False, f"{_BUCKET}/*"),
        )
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    return _code("json", json.dumps(policy, indent=2))


def _s3_rights() -> str:
    return _table(("right", "for"), ((f"`{right.name}`", right.why) for right in S3_RIGHTS))


def _azure_rights() -> str:
    under = "data action, below `Microsoft.Storage/storageAccounts/blobServices/containers/`"
    return _table(
        ("permission of a SAS", under, "for"),
        ((f"`{right.sas}`", f"`{right.action}`", right.why) for right in AZURE_RIGHTS),
    )


def _gcs_rights() -> str:
    return _table(("permission", "for"), ((f"`{right.name}`", right.why) for right in GCS_RIGHTS))


def _stanza(code: Code) -> str:
    stanza = CATALOGUE[code]
    rows = (
        ("What it means", stanza.means),
        ("Does waiting help", f"{stanza.waiting.value}"),
        ("Who can mend it", f"{stanza.who.value}"),
        ("What to do", stanza.do),
        ("Is anything lost", stanza.lost),
        ("In its user's words", stanza.user and f"{stanza.user} {stanza.user_does}"),
    )
    facts = "".join(f"- **{name}**: {said}\n" for name, said in rows if said)
    return f"## {code.value}\n\n{stanza.title}.\n\n{facts}"


def _catalogue() -> str:
    return "\n".join(map(_stanza, Code))


def _console_catalogue(*, to_users: bool) -> str:
    stanzas = {
        code.value: {
            to_camel(name): said
            for name, said in asdict(CATALOGUE[code]).items()
            if said and name.startswith("user") is to_users
        }
        for code in Code
    }
    said = {code: stanza for code, stanza in stanzas.items() if stanza}
    return f"export const STANZAS = {json.dumps(said, indent=1, ensure_ascii=False)};\n"


def _client_catalogue() -> str:
    stanzas = {
        code.value: {to_camel(name): said for name, said in asdict(CATALOGUE[code]).items() if said}
        for code in Code
    }
    said = json.dumps(stanzas, indent=1, ensure_ascii=False)
    return f"STANZAS: Mapping[str, Mapping[str, str]] = {said}\n"


def _fields(model: type[BaseModel], what: str) -> str:
    return _table(
        (what, "default", "meaning"),
        (
            (f"`{name}`", f"`{json.dumps(field.get_default())}`", field.description or "")
            for name, field in model.model_fields.items()
        ),
    )


def _attention() -> str:
    words = {"tenant": "TENANT", "subject": "…", "count": "n"}
    return _table(
        ("code", "what is said", "what to do", "alert"),
        (
            (
                f"`{code}`",
                known.sentence.format(**words),
                known.advice.format(**words),
                f"`{known.alert}`" if known.alert else "none: an operator wants it so",
            )
            for code, known in attention.CATALOGUE.items()
        ),
    )


def _findings() -> str:
    """Return where docs/incidents.md tells of each finding."""
    titles = {code: known.alert or code.capitalize() for code, known in attention.CATALOGUE.items()}
    return _table(
        ("finding", "section"),
        ((f"`{code}`", f"[{title}](#{title.lower()})") for code, title in titles.items()),
    )


def _file_moves() -> str:
    return _table(
        ("what happens", "to a file in state", "which is then"),
        (
            (happening.value, f"`{before}`", f"`{after}`")
            for happening, moves in FILE_MOVES.items()
            for before, after in moves.items()
        ),
    )


def _s3_servers() -> str:
    makes = [("moto (of the tests)", s3.VERSION, s3.LACKS)]
    makes += [(make.name, make.version, make.lacks) for make in MAKES.values()]
    return _table(
        ("server", "version", "what it can't"),
        ((name, version, ", ".join(lacks) or "nothing") for name, version, lacks in makes),
    )


def _s3_abilities() -> str:
    return _table(
        ("what `delivery doctor` tries", "where a server can't", "which is a problem"),
        (
            (ability.check, ability.without, "yes" if ability.needed else "no")
            for ability in ABILITIES
        ),
    )


# By the file that it is in, and what its lines call it.
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/configuration.md": {
        "the settings of a tenant": _tenant_settings,
        "S3 servers": _s3_servers,
        "what S3 servers are tried for": _s3_abilities,
    },
    "docs/console.md": {"the pages of the console": pictures.pages},
    "docs/alerts.md": {"the alerts": figures.alerts},
    "docs/commands.md": {"the commands": commands.commands},
    "docs/client-commands.md": {"the commands of the client": commands.commands_of_the_client},
    "app/man/delivery.1": {"the manual of `delivery`": man.of_the_service},
    "web/client/man/rs-delivery.1": {"the manual of `rs-delivery`": man.of_the_client},
    "docs/http-api.md": {
        "what any endpoint may answer": http_api.told_once,
        "the HTTP API": http_api.http_api,
    },
    "docs/incidents.md": {"where each finding is told of": _findings},
    "docs/log-events.md": {"the events of the log": figures.log_events},
    "docs/messages.md": {"the messages": messages.messages},
    "docs/metrics.md": {
        "the metrics of a process": lambda: figures.metrics(of_database=False),
        "the metrics of the database": lambda: figures.metrics(of_database=True),
    },
    "docs/states.md": {
        "the picture of the states": drawing.image,
        "the states": states.transitions,
        "what workers do": states.work,
        "what clients are told": states.statuses,
    },
    "docs/states.svg": {"the drawing of the states": drawing.svg},
    "docs/errors.md": {"the catalogue of errors": _catalogue},
    "docs/operating.md": {"who may do what": _roles, "what needs you": _attention},
    "docs/least-rights.md": {
        "rights in PostgreSQL": _database_rights,
        "rights in RabbitMQ": lambda: _rabbitmq_rights(declares=True),
        "rights in RabbitMQ, without declaring": lambda: _rabbitmq_rights(declares=False),
        "policy of S3": _s3_policy,
        "rights in S3": _s3_rights,
        "rights in Azure": _azure_rights,
        "rights in GCS": _gcs_rights,
    },
    "docs/stand-in.md": {
        "moves of a file": _file_moves,
        "switches of the stand-in": lambda: _fields(Switches, "switch"),
        "faults of the stand-in": lambda: _fields(Faults, "fault"),
    },
    "web/client/rs_delivery_client/catalogue.py": {"the catalogue of errors": _client_catalogue},
    "web/assets/console/stanzas.js": {
        "the catalogue of errors": lambda: _console_catalogue(to_users=False)
    },
    "web/assets/console/stanzas-users.js": {
        "the catalogue of errors, in words for users": lambda: _console_catalogue(to_users=True)
    },
    "web/assets/console/new.js": {
        "what files can be delivered as": lambda: f"const FORMATS = {json.dumps(list(FORMATS))};\n"
    },
    "web/assets/console/setting-schemas.js": {"the settings of a tenant": _console_settings},
}


def current(file: str) -> str:
    """Return a file with each of its parts as it is made now. Raises KeyError for another one."""
    parts = dict(PARTS[file])
    text = (ROOT / file).read_text("utf-8")
    made = _PART.sub(lambda part: f"{part['begin']}{parts.pop(part['name'])()}{part['end']}", text)
    if parts:
        raise ValueError(f"{file} has no lines around: {', '.join(parts)}")
    return made


if __name__ == "__main__":
    for name in PARTS:
        (ROOT / name).write_text(current(name), "utf-8")
