"""The settings of a tenant (contract, section 4): names, types, rules, defaults, secrets.

A setting is an entry of `_definitions`, of which API, console, configuration files and docs are
made; `resolve` says what it means to deliveries. Values are plain JSON, as clients send and read
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Union
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)
from pydantic.config import JsonDict

from app.delivery.formats import DEFAULT_FORMAT, FORMATS, FormatName
from app.delivery.targets import Target, TargetKinds
from app.delivery.templates import PLACEHOLDERS, ArchiveName
from app.delivery.templates import Prefix as PrefixTemplate
from app.delivery.webhooks import WEBHOOKS
from app.errors import InvalidSettingError, TargetUnavailableError, UnknownSettingError
from app.network.hosts import port_of
from app.settings import Settings
from app.settings.tenants import TENANT
from app.settings.texts import bucket, host, line, prefix, region, token
from app.tenants import webhooks
from app.tenants.masks import MASK, SECRET, not_kept, unmasked
from app.tenants.quotas import QuotaValue, quota_of
from app.tenants.values import TenantSettings
from app.tenants.webhooks import MAX_WEBHOOKS, WebhookValue, webhooks_of

_MAX_HOURS = 876_000  # hours; what a date can hold
# Marks in the schemas, by which a form knows what stands beside a number.
_HOURS: JsonDict = {"x-unit": "hours"}
_BYTES: JsonDict = {"x-unit": "bytes"}
_Hours = Annotated[int, Field(strict=True, ge=0, le=_MAX_HOURS, json_schema_extra=_HOURS)]
# The rules themselves are in the validators; the patterns are what a schema can say of them.
Token = Annotated[
    str, AfterValidator(token), Field(json_schema_extra={"pattern": "^[!-~]([ -~]{0,1022}[!-~])?$"})
]
_Region = Annotated[
    str,
    AfterValidator(region),
    Field(json_schema_extra={"pattern": "^[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*$", "maxLength": 63}),
]
Prefix = Annotated[
    str, AfterValidator(prefix), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})
]
Host = Annotated[
    str, AfterValidator(host), Field(json_schema_extra={"pattern": "^[A-Za-z0-9.:\\[\\]-]+$"})
]
Bucket = Annotated[
    str,
    AfterValidator(bucket),
    Field(json_schema_extra={"pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"}),
]


class Value(BaseModel):
    """A value of several fields; others are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class S3Server(Value):
    """An S3-compatible server and how to sign in."""

    scheme: Literal["http", "https"]
    host: Host = Field(description="Host name or IP address.")
    port: int = Field(ge=1, le=65535)
    region: _Region
    key: Token = Field(description="Access key.")
    secret: Token = Field(
        repr=False,
        json_schema_extra=SECRET,
        description=f"Secret key. Reads `{MASK}`; sent back like that, the stored one is kept, "
        "while scheme, host and port stay the same.",
    )


def default_target(settings: TenantSettings) -> Mapping[str, Target]:
    """Return the target that requests without a name mean, by the name that a check has for it."""
    return {"default": settings.target}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What is known of a setting before any tenant sets it."""

    name: str
    title: str  # in the console
    takes: str  # its values, in words, for the docs
    description: str
    type: TypeAdapter[Any]
    # What holds until a tenant of this name sets it: what the deployment's static settings say.
    default: Callable[[Settings, str], Any]
    java_class: str  # of its value, in a configuration file of REGARDS
    of_regards: bool = False  # else REGARDS complains of it in a file
    sensitive: bool = False  # it holds secrets
    of_place: bool = False  # it tells where something is, which only those see who may set it
    # Places that a value names, which an operator may forbid, each with the path that leads to it.
    places: Callable[[Any], Iterable[tuple[str, Mapping[str, Any]]]] = lambda _: ()
    # Reasons, beside places, for which an operator forbids a value.
    forbids: Callable[[Any, Settings], Iterable[str]] = lambda _value, _settings: ()
    # Targets that it is about, by name: what the console offers to try. None: it offers nothing.
    tries: Callable[[TenantSettings], Mapping[str, Target]] | None = None

    @property
    def is_public(self) -> bool:
        """Whether all who may ask for deliveries are told what it is set to."""
        return not self.sensitive and not self.of_place


_TargetName = Annotated[str, AfterValidator(line), Field(max_length=255)]
_TRUE_OR_FALSE = TypeAdapter(Annotated[bool, Field(strict=True)])
MAX_LINK_HOURS = 168  # the most that S3, Azure and Google sign for


class Definitions:
    """Every setting, by its name. What `delivery_targets` takes is as the kinds of stores say."""

    def __init__(self, kinds: TargetKinds) -> None:
        self._kinds = kinds
        self._all = {definition.name: definition for definition in _definitions(kinds)}
        self._tags = frozenset(kinds.settings()) if len(kinds.settings()) > 1 else frozenset[str]()

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._all.values())

    @property
    def names(self) -> list[str]:
        """The names of all."""
        return [*self._all]

    def of(self, name: str) -> Definition:
        """Return what is known of a setting. Raises UnknownSettingError."""
        if name not in self._all:
            raise UnknownSettingError(
                f"there is no setting {name[:100]!r}; there are {', '.join(self._all)}"
            )
        return self._all[name]

    def defaults(self, settings: Settings, tenant: str) -> dict[str, Any]:
        """Return what holds for a tenant that has set nothing."""
        return {name: known.default(settings, tenant) for name, known in self._all.items()}

    def parse(self, name: str, value: Any, *, current: Any, settings: Settings) -> Any:
        """Return a value that may be stored; masked secrets are taken from the current one.

        `settings` are the process's: what the operator allows.
        Raises UnknownSettingError, or InvalidSettingError with every reason.
        """
        definition = self.of(name)
        try:
            parsed = definition.type.validate_python(value)
        except ValidationError as error:
            broken = error.errors(include_input=False, include_url=False, include_context=False)
            raise InvalidSettingError(
                [_in_words(name, self._path(item["loc"]), item["msg"]) for item in broken]
            ) from None
        plain = definition.type.dump_python(parsed, mode="json", exclude_none=True)
        reasons = [
            *self._forbidden(definition.places(plain), settings),
            *definition.forbids(plain, settings),
            *not_kept(plain, current, (name,)),
        ]
        if reasons:
            raise InvalidSettingError(reasons)
        return unmasked(plain, current)

    def _forbidden(
        self, places: Iterable[tuple[str, Mapping[str, Any]]], settings: Settings
    ) -> Iterator[str]:
        """Give a reason for each place that tenants may not deliver to."""
        for path, place in places:
            flaw = self._kinds.flaw_of(place, settings)
            if flaw is not None:
                yield f"{path}{flaw[0]}: {flaw[1]}"

    def _path(self, where: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Leave out the kind of a target, which pydantic puts behind the target's name."""
        return where[:1] + where[2:] if self._tags.intersection(where[1:2]) else where


def _definitions(kinds: TargetKinds) -> Iterator[Definition]:
    targets: Any = Annotated[dict[_TargetName, _entry(kinds)], Field(max_length=100)]  # type: ignore[misc]
    yield from (
        Definition(
            name="request_ttl",
            title="Time to live of requests (hours)",
            takes="whole hours, 0 or more",
            description="Hours after which a request that is not done ends in ERROR (EXPIRED).",
            type=TypeAdapter(_Hours),
            default=_request_ttl,
            java_class="java.lang.Integer",
            of_regards=True,
        ),
        Definition(
            name="s3_server",
            title="S3 server",
            takes="`scheme`, `host`, `port`, `region`, `key`, `secret`",
            description="S3 server that archives are put on.",
            type=TypeAdapter(S3Server),
            default=_s3_server,
            java_class="fr.cnes.regards.modules.delivery.domain.settings.S3DeliveryServer",
            of_regards=True,
            sensitive=True,
            # Of the default target, which is of the first kind.
            places=lambda server: [("", {"s3_server": server})],
            tries=default_target,
        ),
        Definition(
            name="build_bucket",
            title="Build bucket (not used)",
            takes="name of a bucket",
            description="Bucket for archives in the making. Kept for compatibility: none is used.",
            type=TypeAdapter(Bucket),
            default=lambda settings, tenant: settings.build_bucket.replace(TENANT, tenant),
            java_class="java.lang.String",
            of_regards=True,
            of_place=True,
        ),
        Definition(
            name="delivery_bucket",
            title="Bucket of archives",
            takes="name of a bucket",
            description="Bucket that archives are put into.",
            type=TypeAdapter(Bucket),
            default=lambda settings, tenant: settings.delivery_bucket.replace(TENANT, tenant),
            java_class="java.lang.String",
            of_regards=True,
            of_place=True,
        ),
        Definition(
            name="order_size_limit_bytes",
            title="Largest order (bytes)",
            takes="whole number, 0 or more",
            description="Bytes of the largest order that rs-order shall accept for a request.",
            type=TypeAdapter(
                Annotated[int, Field(strict=True, ge=0, lt=2**63, json_schema_extra=_BYTES)]
            ),
            default=lambda settings, _: settings.order_size_limit_bytes,
            java_class="java.lang.Long",
            of_regards=True,
        ),
        Definition(
            name="max_suborders",
            title="Suborders of an order, at most",
            takes="whole number, 0 or more",
            description="Suborders that an order may have: one that rs-order cuts into more fails "
            "as TOO_MANY_SUBORDERS. 0: any number; 1 is what REGARDS' own rs-delivery takes.",
            type=TypeAdapter(Annotated[int, Field(strict=True, ge=0, lt=2**31)]),
            default=lambda settings, _: settings.max_suborders,
            java_class="java.lang.Integer",
        ),
        Definition(
            name="delivery_format",
            title="Format of deliveries",
            takes=", ".join(f"`{name}`" for name in FORMATS),
            description="What files are delivered as, unless a request chooses by "
            "`delivery.format`.",
            type=TypeAdapter(FormatName),
            default=lambda _settings, _tenant: DEFAULT_FORMAT,
            java_class="java.lang.String",
        ),
        Definition(
            name="archive_name",
            title="Name of archives",
            takes=f"text with {_placeholders()}, or empty",
            description="What archives are called, without the suffix of their format, unless a "
            "request chooses by `delivery.archiveName`. Of several products, `{productId}` is "
            "`several` and `{version}` is `mixed`. Empty: as REGARDS calls them.",
            type=TypeAdapter(ArchiveName),
            default=lambda _settings, _tenant: "",
            java_class="java.lang.String",
        ),
        Definition(
            name="prefix",
            title="Folders of archives",
            takes=f"folders with / between, of text with {_placeholders()}; or empty",
            description="Folders before that of the correlation id, behind the prefix of the "
            "target, unless a request chooses by `delivery.prefix`. Empty: none.",
            type=TypeAdapter(PrefixTemplate),
            default=lambda _settings, _tenant: "",
            java_class="java.lang.String",
        ),
        Definition(
            name="manifest",
            title="Manifest beside archives",
            takes="true or false",
            description="Whether `manifest.json` is put beside each archive, once that is there: "
            "it lists all files with their sizes and checksums. Files that are delivered as they "
            "are have one in any case.",
            type=_TRUE_OR_FALSE,
            default=lambda settings, _: settings.manifest,
            java_class="java.lang.Boolean",
        ),
        Definition(
            name="report",
            title="Report of failed deliveries",
            takes="true or false",
            description="Whether `report.json` is put where the archive would be when a delivery "
            "fails, and ERROR tells it by `reportUrl`: every file, what happened to it, and what "
            "to do. A target that does not take it in time holds up no response.",
            type=_TRUE_OR_FALSE,
            default=lambda settings, _: settings.report,
            java_class="java.lang.Boolean",
        ),
        Definition(
            name="sha256",
            title="SHA-256 beside MD5",
            takes="true or false",
            description="Whether the SHA-256 of each archive is told to clients, and in manifests "
            "that of each file, too.",
            type=_TRUE_OR_FALSE,
            default=lambda settings, _: settings.sha256,
            java_class="java.lang.Boolean",
        ),
        Definition(
            name="compression_threshold",
            title="Compression threshold",
            takes="0 to 1",
            description="A file of a ZIP is compressed if a sample of it shrinks below so much of "
            "itself, and stored otherwise: with 0.9 where a tenth is spared, with 0 never. A "
            "delivery that is half made goes on with the one it was begun with.",
            type=TypeAdapter(Annotated[float, Field(strict=True, ge=0, le=1)]),
            default=lambda settings, _: settings.compression_threshold,
            java_class="java.lang.Double",
        ),
        Definition(
            name="progress_events",
            title="Progress over AMQP",
            takes="true or false",
            description="Whether clients hear over AMQP how far their deliveries are, on an "
            "exchange of its own (DeliveryProgressDtoEvent), every few seconds.",
            type=_TRUE_OR_FALSE,
            default=lambda _settings, _tenant: False,
            java_class="java.lang.Boolean",
        ),
        Definition(
            name="delivered_ttl",
            title="Deliveries are kept (hours)",
            takes="whole hours, 0 or more",
            description="Hours after which what was delivered is removed from its target, as DONE "
            "tells by `expires`. 0: it stays. A change holds for what is done after it.",
            type=TypeAdapter(_Hours),
            default=_delivered_ttl,
            java_class="java.lang.Integer",
        ),
        Definition(
            name="link_ttl",
            title="Links to what is delivered (hours)",
            takes="whole hours, 0 to 168",
            description="Hours for which links to delivered archives hold, by which any client has "
            "them without credentials: DONE tells one, and POST /deliveries/{id}/link makes them. "
            "0: none are made.",
            type=TypeAdapter(
                Annotated[
                    int,
                    Field(strict=True, ge=0, le=MAX_LINK_HOURS, json_schema_extra=_HOURS),
                ]
            ),
            default=lambda settings, _: settings.link_ttl,
            java_class="java.lang.Integer",
        ),
        Definition(
            name="quota",
            title="Quotas",
            takes="`tenant` and `user` (each `active`, `requests_per_minute`, `bytes_per_day`), "
            "`over_requests` (`wait` or `deny`), `over_bytes` (`wait` or `error`)",
            description="What the tenant may have, and each of its users: active deliveries, "
            "requests a minute, bytes a day (of UTC); 0: any number. Over HTTP what is more is "
            "refused (429). Over AMQP a request that is more waits, or is denied; a delivery of "
            "more bytes waits for the next day, or ends in ERROR (ORDER_LIMIT_REACHED).",
            type=TypeAdapter(QuotaValue),
            default=lambda _settings, _tenant: QuotaValue().model_dump(mode="json"),
            java_class="java.util.Map",
        ),
        Definition(
            name="delivery_targets",
            title="Further targets, by name",
            takes="object: name → target",
            description="Further targets by name, for requests with `targetDelivery`. While there "
            "are none, any name means the default server and bucket.",
            type=TypeAdapter(targets),
            default=lambda _settings, _tenant: {},
            java_class="java.util.Map",
            sensitive=True,
            places=lambda places: (
                (f"delivery_targets.{name}.", place) for name, place in places.items()
            ),
            tries=lambda settings: settings.targets,
        ),
        Definition(
            name=WEBHOOKS,
            title="Webhooks, by name",
            takes="object: name → `url`, `secret`, `previous_secret`, `events`, `enabled`",
            description="Webhooks that are told what happens to deliveries: CloudEvents, signed as "
            "Standard Webhooks are.",
            type=TypeAdapter(
                Annotated[dict[webhooks.Name, WebhookValue], Field(max_length=MAX_WEBHOOKS)]
            ),
            default=lambda _settings, _tenant: {},
            java_class="java.util.Map",
            sensitive=True,
            forbids=webhooks.flaws,
        ),
    )


def _placeholders() -> str:
    return " ".join(f"`{{{name}}}`" for name in PLACEHOLDERS)


def _request_ttl(settings: Settings, _tenant: str) -> int | float:
    return _hours(settings.request_ttl_hours)


def _delivered_ttl(settings: Settings, _tenant: str) -> int | float:
    return _hours(settings.delivered_ttl_hours)


def _hours(hours: float) -> int | float:
    return int(hours) if hours == int(hours) else hours


def _s3_server(settings: Settings, _tenant: str) -> dict[str, Any]:
    address = urlsplit(settings.s3_endpoint)
    return {
        "scheme": address.scheme,
        "host": address.hostname,
        "port": port_of(address),
        "region": settings.s3_region,
        "key": settings.s3_key,
        "secret": settings.s3_secret.get_secret_value(),
    }


def _entry(kinds: TargetKinds) -> Any:
    """Return the type of an entry of `delivery_targets`: what its kind says."""
    models = kinds.settings()
    if len(models) == 1:
        return next(iter(models.values()))
    tagged = tuple(Annotated[model, Tag(kind)] for kind, model in models.items())
    parsed = {model: kind for kind, model in models.items()}
    chosen = Discriminator(
        lambda entry: parsed.get(type(entry)) or kinds.type_of(entry),
        custom_error_type="type",
        custom_error_message=f"type must be one of {', '.join(models)}",
    )
    return Annotated[Union[tagged], chosen]  # noqa: UP007 - made here


def _in_words(name: str, where: tuple[int | str, ...], what: str) -> str:
    path = ".".join([name, *(str(part)[:100] for part in where)])
    return f"{path}: {what.removeprefix('Value error, ')}"


def resolve(
    values: Mapping[str, Any], kinds: TargetKinds, *, tenant: str = "", prefix: str = ""
) -> TenantSettings:
    """Return what the values of all settings mean; `prefix` is that of the default target."""
    default = {
        "s3_server": values["s3_server"],
        "bucket": values["delivery_bucket"],
        "prefix": prefix,
    }
    targets: dict[str, Target] = {}
    not_understood: dict[str, str] = {}
    for name, place in values["delivery_targets"].items():
        try:
            targets[name] = kinds.configured(place)
        except TargetUnavailableError as error:  # a later version has set it: its deliveries wait
            not_understood[name] = str(error)
    return TenantSettings(
        request_ttl=timedelta(hours=values["request_ttl"]),
        order_size_limit_bytes=values["order_size_limit_bytes"],
        max_suborders=values["max_suborders"],
        delivery_format=values["delivery_format"],
        archive_name=values["archive_name"],
        prefix=values["prefix"],
        manifest=values["manifest"],
        report=values["report"],
        sha256=values["sha256"],
        compression_threshold=values["compression_threshold"],
        progress_events=values["progress_events"],
        delivered_ttl=timedelta(hours=values["delivered_ttl"]),
        link_ttl=timedelta(hours=values["link_ttl"]),
        quota=quota_of(values["quota"]),
        target=kinds.configured(default),
        targets=targets,
        not_understood=not_understood,
        webhooks=webhooks_of(tenant, values[WEBHOOKS]),
    )
