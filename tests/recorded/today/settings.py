"""Settings of the deployment and of its tenants: names, types, rules, defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import AliasChoices, SecretStr

from app.run.wiring.kinds import KINDS
from app.settings import Settings, environment_names
from app.settings.files import may_be_in_a_file
from app.tenants.definitions import Definitions

_WORDS = ("description", "title")


def settings() -> Any:
    """Each setting, by the variable of the environment that sets it."""
    schema = Settings.model_json_schema(by_alias=False)["properties"]
    names = environment_names()
    return {
        names[name]: {
            "name": name,
            "others": sorted(set(_aliases(field.validation_alias)) - {names[name]}),
            "type": {k: v for k, v in _rules(schema[name]).items() if k != "default"},
            "default": "made" if field.default_factory else _default(field.default),
            "may be in a file": may_be_in_a_file(field),
        }
        for name, field in Settings.model_fields.items()
    }


def _aliases(alias: Any) -> Iterator[str]:
    if isinstance(alias, AliasChoices):
        yield from (str(choice) for choice in alias.choices)
    elif alias is not None:
        yield str(alias)


def _default(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _rules(schema: Any) -> Any:
    """Return a JSON schema without what is told to people."""
    if isinstance(schema, dict):
        told = {k for k in _WORDS if isinstance(schema.get(k), str)}
        return {k: _rules(v) for k, v in schema.items() if k not in told}
    return [_rules(item) for item in schema] if isinstance(schema, list) else schema


def tenant_settings() -> Any:
    """Each setting of a tenant."""
    known = Definitions(KINDS)
    defaults = known.defaults(Settings(), "default")
    return {
        definition.name: {
            "java_class": definition.java_class,
            "sensitive": definition.sensitive,
            "type": _rules(definition.type.json_schema()),
            "default": defaults[definition.name],
        }
        for definition in known
    }
