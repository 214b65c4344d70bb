"""The settings of a tenant (contract, section 4): names, types, rules, defaults, secrets.

Values are plain JSON, as clients send and read them. The names of Java classes are those that
REGARDS writes into its configuration files.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import InvalidSettingError, UnknownSettingError
from app.model import S3Target, TenantSettings
from app.settings import Settings
from app.validation import bucket, host, line

MASK = "*******"  # what a secret reads as, and what keeps it when it is sent back

# The rules themselves are in the validators; the patterns are what a schema can say of them.
_Line = Annotated[
    str, AfterValidator(line), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})
]
_Host = Annotated[
    str, AfterValidator(host), Field(json_schema_extra={"pattern": "^[A-Za-z0-9._:-]+$"})
]
_Bucket = Annotated[
    str,
    AfterValidator(bucket),
    Field(json_schema_extra={"pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"}),
]


class _Value(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class S3Server(_Value):
    """An S3-compatible server and how to sign in."""

    scheme: Literal["http", "https"]
    host: _Host = Field(description="Host name or IP address.")
    port: int = Field(ge=1, le=65535)
    region: _Line
    key: _Line = Field(description="Access key.")
    secret: _Line = Field(
        repr=False,
        description=f"Secret key. Reads `{MASK}`; sent back like that, the stored one is kept.",
    )


class DeliveryTarget(_Value):
    """A place for archives that requests choose by its name."""

    s3_server: S3Server
    bucket: _Bucket
    prefix: _Line | None = Field(None, description="Put before every key, with a / between.")
    addressing_style: Literal["path", "virtual"] = "path"
    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_]{1,64}$")
    encryption: Literal["AES256", "aws:kms"] | None = None
    encryption_key: _Line | None = Field(None, description="Key of `aws:kms`.")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What is known of a setting before anybody sets it."""

    name: str
    description: str
    java_class: str
    type: TypeAdapter[Any]
    sensitive: bool = False


_TargetName = Annotated[str, AfterValidator(line), Field(max_length=255)]
_HUNDRED_YEARS = 876_000  # hours; what a date can hold

DEFINITIONS: Mapping[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition(
            name="request_ttl",
            description="Hours after which a request that is not done ends in ERROR (EXPIRED).",
            java_class="java.lang.Integer",
            type=TypeAdapter(Annotated[int, Field(strict=True, ge=0, le=_HUNDRED_YEARS)]),
        ),
        Definition(
            name="s3_server",
            description="S3 server that archives are put on.",
            java_class="fr.cnes.regards.modules.delivery.domain.settings.S3DeliveryServer",
            type=TypeAdapter(S3Server),
            sensitive=True,
        ),
        Definition(
            name="build_bucket",
            description="Bucket for archives in the making. Kept for compatibility: none is used.",
            java_class="java.lang.String",
            type=TypeAdapter(_Bucket),
        ),
        Definition(
            name="delivery_bucket",
            description="Bucket that archives are put into.",
            java_class="java.lang.String",
            type=TypeAdapter(_Bucket),
        ),
        Definition(
            name="order_size_limit_bytes",
            description="Bytes of the largest order that rs-order shall accept for a request.",
            java_class="java.lang.Long",
            type=TypeAdapter(Annotated[int, Field(strict=True, ge=0, lt=2**63)]),
        ),
        Definition(
            name="delivery_targets",
            description="Further targets by name, for requests with `targetDelivery`. While there "
            "are none, any name means the default server and bucket.",
            java_class="java.util.Map",
            type=TypeAdapter(Annotated[dict[_TargetName, DeliveryTarget], Field(max_length=100)]),
            sensitive=True,
        ),
    )
}


def definition_of(name: str) -> Definition:
    """Return what is known of a setting. Raises UnknownSettingError."""
    if name not in DEFINITIONS:
        raise UnknownSettingError(
            f"there is no setting {name[:100]!r}; there are {', '.join(DEFINITIONS)}"
        )
    return DEFINITIONS[name]


def parse(name: str, value: Any, *, current: Any) -> Any:
    """Return a value that may be stored; secrets that are masked are taken from the current one.

    Raises UnknownSettingError, or InvalidSettingError with every reason.
    """
    definition = definition_of(name)
    try:
        parsed = definition.type.validate_python(value)
    except ValidationError as error:
        broken = error.errors(include_input=False, include_url=False, include_context=False)
        raise InvalidSettingError(
            [_in_words(name, item["loc"], item["msg"]) for item in broken]
        ) from None
    return _unmasked(
        definition.type.dump_python(parsed, mode="json", exclude_none=True), current, (name,)
    )


def _in_words(name: str, where: tuple[int | str, ...], what: str) -> str:
    path = ".".join([name, *(str(part)[:100] for part in where)])
    return f"{path}: {what.removeprefix('Value error, ')}"


def _unmasked(value: Any, current: Any, where: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    known = current if isinstance(current, dict) else {}
    kept = {}
    for name, inner in value.items():
        if name == "secret" and inner == MASK:
            if not isinstance(known.get("secret"), str):
                raise InvalidSettingError(
                    [f"{'.'.join((*where, name))}: there is no stored one to keep; send it"]
                )
            kept[name] = known["secret"]
        else:
            kept[name] = _unmasked(inner, known.get(name), (*where, name))
    return kept


def with_secrets(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with each of its secrets changed."""
    if not isinstance(value, dict):
        return value
    return {
        name: change(inner)
        if name == "secret" and isinstance(inner, str)
        else with_secrets(inner, change)
        for name, inner in value.items()
    }


def masked(value: Any) -> Any:
    """Return a value as it may be shown."""
    return with_secrets(value, lambda _: MASK)


def same_secrets(one: Any, other: Any) -> bool:
    """Whether two values have the same secrets."""
    found: list[list[str]] = [[], []]
    for value, into in zip((one, other), found, strict=True):
        with_secrets(value, lambda secret, into=into: into.append(secret) or MASK)  # type: ignore[misc]
    return secrets.compare_digest(*("\0".join(some).encode() for some in found))


def defaults(settings: Settings) -> dict[str, Any]:
    """Return what holds for a tenant that has set nothing: the deployment's static settings."""
    address = urlsplit(settings.s3_endpoint)
    hours = settings.request_ttl_hours
    return {
        "request_ttl": int(hours) if hours == int(hours) else hours,
        "s3_server": {
            "scheme": address.scheme,
            "host": address.hostname,
            "port": address.port or (443 if address.scheme == "https" else 80),
            "region": settings.s3_region,
            "key": settings.s3_key,
            "secret": settings.s3_secret.get_secret_value(),
        },
        "build_bucket": settings.build_bucket,
        "delivery_bucket": settings.delivery_bucket,
        "order_size_limit_bytes": settings.order_size_limit_bytes,
        "delivery_targets": {},
    }


def resolve(values: Mapping[str, Any]) -> TenantSettings:
    """Return what the values of all settings mean."""
    return TenantSettings(
        request_ttl=timedelta(hours=values["request_ttl"]),
        order_size_limit_bytes=values["order_size_limit_bytes"],
        target=_target(values["s3_server"], bucket=values["delivery_bucket"]),
        targets={
            name: _target(
                target["s3_server"],
                bucket=target["bucket"],
                prefix=f"{target['prefix'].strip('/')}/" if "prefix" in target else "",
                addressing_style=target["addressing_style"],
                storage_class=target.get("storage_class"),
                encryption=target.get("encryption"),
                encryption_key=target.get("encryption_key"),
            )
            for name, target in values["delivery_targets"].items()
        },
    )


def _target(server: Mapping[str, Any], **fields: Any) -> S3Target:
    name = server["host"]
    try:
        literal = f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        literal = name
    return S3Target(
        endpoint=f"{server['scheme']}://{literal}:{server['port']}",
        region=server["region"],
        key=server["key"],
        secret=server["secret"],
        **fields,
    )
