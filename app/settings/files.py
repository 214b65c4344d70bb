"""Values from files: `DELIVERY_<NAME>_FILE` names a file that has the value of `DELIVERY_<NAME>`.

That is how Docker, Kubernetes and systemd hand secrets over: an environment is seen by every user
who may look at the process, and by everything that it starts. And a file is read again while the
process runs (`reread`), which an environment is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, SecretStr
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

# `json_schema_extra` of what is no secret and may lie in a file,
FROM_FILE: JsonDict = {"from_file": True}
# and of a list whose file may hold nothing: the last that was in it may have to go.
MAY_BE_EMPTY: JsonDict = {"may_be_empty": True}
_MAX_SIZE = 1024 * 1024  # bytes
_PREFIX = "DELIVERY_"
_SUFFIX = "_FILE"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """Stands for the value of a setting that can't be had; a validator tells why."""

    why: str


def may_be_in_a_file(field: FieldInfo) -> bool:
    """Whether a setting may be given as a file: it is a secret, or marked."""
    return _is_secret(field.annotation) or _is_marked(field, FROM_FILE)


def _is_marked(field: FieldInfo, mark: JsonDict) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and mark.keys() <= extra.keys()


def is_in_a_file(name: str) -> bool:
    """Whether this process was given the name of a file for a setting."""
    return bool(_environment().get(f"{_PREFIX}{name.upper()}{_SUFFIX}"))


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


class SecretFiles(PydanticBaseSettingsSource):
    """Reads what is named by `DELIVERY_<NAME>_FILE`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value, the key that it is given under, and that it is plain text."""
        return self._value(field, field_name, _environment()), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what is in files; Unusable for what should be."""
        environment = _environment()
        fields = self.settings_cls.model_fields
        values = {name: self._value(field, name, environment) for name, field in fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _value(
        self, field: FieldInfo, name: str, environment: Mapping[str, str]
    ) -> str | Unusable | None:
        variable = f"{_PREFIX}{name.upper()}"
        file = environment.get(f"{variable}{_SUFFIX}")
        if not file or f"{name}{_SUFFIX.lower()}" in self.settings_cls.model_fields:
            return None
        if not may_be_in_a_file(field):
            return Unusable(
                why=f"{variable}{_SUFFIX} is set, but this is no secret, and not read from a file; "
                f"set {variable}"
            )
        given = next(
            (setter for setter in _names(field, variable) if environment.get(setter.upper())), None
        )
        if given is not None:
            return Unusable(
                why=f"both {given} and {variable}{_SUFFIX} are set; leave one of them out"
            )
        return _content(file, f"{variable}{_SUFFIX}", may_be_empty=_is_marked(field, MAY_BE_EMPTY))


def _environment() -> dict[str, str]:
    return {name.upper(): value for name, value in os.environ.items()}


def _names(field: FieldInfo, variable: str) -> Iterable[str]:
    """Return the variables that set a field."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else []
    return [choice for choice in choices if isinstance(choice, str)] or [variable]


def _content(file: str, variable: str, *, may_be_empty: bool) -> str | Unusable:
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no name of a file"
        return Unusable(
            why=f"{variable} names {file!r}, which can't be read ({why}); correct the name, or "
            "give this process the right to read it"
        )
    if len(content) > _MAX_SIZE:
        return Unusable(why=f"{variable} names {file!r}, which has more than a MiB")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return Unusable(why=f"{variable} names {file!r}, which is no text in UTF-8")
    if not text and not may_be_empty:
        return Unusable(why=f"{variable} names {file!r}, which is empty")
    return text
