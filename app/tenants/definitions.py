"""The settings of a tenant (contract, section 4): names, types, rules, defaults, secrets.

Values are plain JSON, as clients send and read them. The names of Java classes are those that
REGARDS writes into its configuration files.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.delivery.targets import S3Target, TenantSettings
from app.errors import InvalidSettingError, UnknownSettingError
from app.network.hosts import ADVICE, AllowedHosts
from app.settings import Settings
from app.settings.tenants import TENANT
from app.validation import bucket, host, line, prefix, region, token

MASK = "*******"  # what a secret reads as, and what keeps it when it is sent back

# The rules themselves are in the validators; the patterns are what a schema can say of them.
_Line = Annotated[
    str, AfterValidator(line), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})
]
_Token = Annotated[
    str, AfterValidator(token), Field(json_schema_extra={"pattern": "^[!-~]([ -~]{0,1022}[!-~])?$"})
]
_Region = Annotated[
    str,
    AfterValidator(region),
    Field(json_schema_extra={"pattern": "^[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*$", "maxLength": 63}),
]
_Prefix = Annotated[
    str, AfterValidator(prefix), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})
]
_Host = Annotated[
    str, AfterValidator(host), Field(json_schema_extra={"pattern": "^[A-Za-z0-9.:\\[\\]-]+$"})
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
    region: _Region
    key: _Token = Field(description="Access key.")
    secret: _Token = Field(
        repr=False,
        description=f"Secret key. Reads `{MASK}`; sent back like that, the stored one is kept, "
        "while scheme, host and port stay the same.",
    )


class DeliveryTarget(_Value):
    """A place for archives that requests choose by its name."""

    s3_server: S3Server
    bucket: _Bucket
    prefix: _Prefix | None = Field(None, description="Put before every key, with a / between.")
    addressing_style: Literal["path", "virtual"] = "path"
    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_]{1,64}$")
    encryption: Literal["AES256", "aws:kms"] | None = None
    encryption_key: _Token | None = Field(None, description="Key of `aws:kms`.")


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


def parse(name: str, value: Any, *, current: Any, hosts: AllowedHosts) -> Any:
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
    plain = definition.type.dump_python(parsed, mode="json", exclude_none=True)
    reasons = [*_forbidden(plain, hosts, (name,)), *_without_secret(plain, current, (name,))]
    if reasons:
        raise InvalidSettingError(reasons)
    return _unmasked(plain, current)


def _in_words(name: str, where: tuple[int | str, ...], what: str) -> str:
    path = ".".join([name, *(str(part)[:100] for part in where)])
    return f"{path}: {what.removeprefix('Value error, ')}"


def _is_server(value: Any) -> bool:
    # A target may be called "secret".
    return isinstance(value, dict) and isinstance(value.get("secret"), str)


def _inner(value: Any, where: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    if isinstance(value, dict):
        yield from ((name, inner, (*where, name)) for name, inner in value.items())


def _forbidden(value: Any, hosts: AllowedHosts, where: tuple[str, ...]) -> Iterator[str]:
    """Give a reason for each server that tenants may not deliver to."""
    if _is_server(value):
        flaw = hosts.flaw_of(endpoint_of(value))
        if flaw is not None:
            yield f"{'.'.join(where)}.host: {flaw}: {ADVICE}"
    for _, inner, at in _inner(value, where):
        yield from _forbidden(inner, hosts, at)


def _without_secret(value: Any, current: Any, where: tuple[str, ...]) -> Iterator[str]:
    """Give a reason for each secret that is masked and can't be kept.

    One that was given for a server is not sent, as a signature, to another.
    """
    known = current if isinstance(current, dict) else {}
    if _is_server(value) and value["secret"] == MASK:
        if not isinstance(known.get("secret"), str):
            yield f"{'.'.join(where)}.secret: there is no stored one to keep; send it"
        elif endpoint_of(value).lower() != endpoint_of(known).lower():
            yield (
                f"{'.'.join(where)}.secret: the stored one is for another scheme, host or port; "
                "send the secret for this one"
            )
    for name, inner, at in _inner(value, where):
        yield from _without_secret(inner, known.get(name), at)


def _unmasked(value: Any, current: Any) -> Any:
    if not isinstance(value, dict):
        return value
    known = current if isinstance(current, dict) else {}
    if _is_server(value) and value["secret"] == MASK:
        return value | {"secret": known["secret"]}
    return {name: _unmasked(inner, known.get(name)) for name, inner in value.items()}


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


def defaults(settings: Settings, tenant: str) -> dict[str, Any]:
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
        "build_bucket": settings.build_bucket.replace(TENANT, tenant),
        "delivery_bucket": settings.delivery_bucket.replace(TENANT, tenant),
        "order_size_limit_bytes": settings.order_size_limit_bytes,
        "delivery_targets": {},
    }


def shares_credentials(values: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether requests for a tenant are signed with the deployment's own S3 key."""
    return all(
        secrets.compare_digest(
            str(values["s3_server"][name]).encode(), str(default["s3_server"][name]).encode()
        )
        for name in ("key", "secret")
    )


def leads_elsewhere(values: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether the deployment's own S3 key is used at another server, or for another bucket."""
    return shares_credentials(values, default) and (
        endpoint_of(values["s3_server"]).lower() != endpoint_of(default["s3_server"]).lower()
        or values["delivery_bucket"] != default["delivery_bucket"]
    )


def resolve(values: Mapping[str, Any], *, prefix: str = "") -> TenantSettings:
    """Return what the values of all settings mean; `prefix` is that of the default target."""
    return TenantSettings(
        request_ttl=timedelta(hours=values["request_ttl"]),
        order_size_limit_bytes=values["order_size_limit_bytes"],
        target=_target(
            values["s3_server"], bucket=values["delivery_bucket"], prefix=_with_slash(prefix)
        ),
        targets={
            name: _target(
                target["s3_server"],
                bucket=target["bucket"],
                prefix=_with_slash(target.get("prefix", "")),
                addressing_style=target["addressing_style"],
                storage_class=target.get("storage_class"),
                encryption=target.get("encryption"),
                encryption_key=target.get("encryption_key"),
            )
            for name, target in values["delivery_targets"].items()
        },
    )


def _with_slash(prefix: str) -> str:
    return f"{prefix.strip('/')}/" if prefix else ""


def _target(server: Mapping[str, Any], **fields: Any) -> S3Target:
    return S3Target(
        endpoint=endpoint_of(server),
        region=server["region"],
        key=server["key"],
        secret=server["secret"],
        **fields,
    )


def endpoint_of(server: Mapping[str, Any]) -> str:
    """Return scheme, host and port of a server as a URL."""
    name = server["host"]
    try:
        literal = f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        literal = name
    return f"{server['scheme']}://{literal}:{server['port']}"
