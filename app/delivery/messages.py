"""The bodies of AMQP messages, as REGARDS names and writes them (contract, section 1).

The same models check what comes in, make what goes out, and are published as JSON Schemas.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from app.delivery.deadline import Deadline
from app.delivery.formats import FormatName
from app.delivery.labels import Labels
from app.delivery.orders import OrderStatus
from app.delivery.states import Status
from app.delivery.templates import ArchiveName, Prefix
from app.errors import ErrorType

_DOTS = (".", "..")


def _not_dots(text: str) -> str:
    """Refuse what an address can't hold: `/users/email/..` is another one."""
    if text in _DOTS:
        raise ValueError("must not be . or ..")
    return text


_NotBlank = Annotated[str, StringConstraints(pattern=r"\S")]
# Where a text is only passed on, anything will do.
_Text = Annotated[
    str, BeforeValidator(lambda v: v if v is None or isinstance(v, str) else json.dumps(v))
]
MAX_CORRELATION_ID = 255  # characters
MAX_TARGET = 255
MAX_USER = 128
# Far more than any client needs. A list that is longer is one broken rule, however many it holds.
MAX_QUERIES = 1000
MAX_QUERY = 10_000  # characters
_MAX_KINDS = 100  # there are two, and they may be named again
_MAX_RULES = 20  # that a denial names
_Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def as_property(text: str | None) -> str | None:
    """Return a text if it can be a property of an AMQP message, 255 bytes at most; else None."""
    return text if text is not None and len(text.encode()) <= 255 else None


class Wire(BaseModel):
    """Names on the wire are in camel case; what is unknown is ignored."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    def body(self) -> dict[str, Any]:
        """Return it as JSON; fields that are null are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OrderFilters(Wire):
    """Which files of the products are wanted."""

    data_types: Annotated[
        list[Literal["RAWDATA", "QUICKLOOK"]],
        Field(min_length=1, max_length=_MAX_KINDS, description="Kinds of files."),
    ]
    filename_reg_exp: str | None = Field(
        None, description="Regular expression for file names; applied by rs-order."
    )


class Order(Wire):
    """What is ordered on rs-order."""

    user: Annotated[
        _NotBlank,
        Field(
            max_length=MAX_USER,
            description="Who orders: a known user of the tenant.",
            json_schema_extra={"not": {"enum": list(_DOTS)}},
        ),
        AfterValidator(_not_dots),
    ]
    queries: Annotated[
        list[Annotated[str, Field(max_length=MAX_QUERY)]],
        Field(
            min_length=1,
            max_length=MAX_QUERIES,
            description="Lucene queries, passed on untouched.",
        ),
    ]
    filters: OrderFilters | None = None


class DeliveryOptions(Wire):
    """How a client wants to be delivered to. REGARDS has no such object; all of it is optional."""

    format: FormatName | None = Field(
        None,
        description="What the files are delivered as; missing: the tenant's `delivery_format`.",
    )
    archive_name: ArchiveName | None = Field(
        None,
        description="What the archive is called, without the suffix of its format: a template of "
        "`{correlationId}` `{productId}` `{version}` `{user}` `{date}`. Missing: the tenant's "
        "`archive_name`; empty: as REGARDS calls it.",
    )
    prefix: Prefix | None = Field(
        None,
        description="Folders before that of the correlation id: a template like `archiveName`, "
        "with slashes. Missing: the tenant's `prefix`; empty: none.",
    )
    partial: bool | None = Field(
        None,
        description="Whether what there is, is delivered where some files failed, and what is "
        "missing is told; missing: all or nothing.",
    )
    labels: Labels | None = Field(
        None, description="What the client calls it; deliveries are found by them."
    )
    deadline: Deadline | None = Field(
        None,
        description="When it is of no use any more, where that is before the tenant's "
        "`request_ttl` is over.",
    )


class DeliveryRequestDtoEvent(Wire):
    """A client asks for products to be delivered."""

    correlation_id: Annotated[
        _NotBlank,
        Field(
            max_length=MAX_CORRELATION_ID, description="Names the delivery; chosen by the client."
        ),
    ]
    # While a tenant has no targets any name is taken, and it is in each line of a list.
    target_delivery: Annotated[str | None, Field(max_length=MAX_TARGET)] = Field(
        None, description="Name of the target; missing or blank: `regards-s3-minio`."
    )
    order: Order
    delivery: DeliveryOptions | None = None


class DeliveryCancelRequestDtoEvent(Wire):
    """A client ends a delivery, which answers ERROR. REGARDS has no such event."""

    correlation_id: Annotated[
        _NotBlank, Field(max_length=255, description="Of the delivery that is to end.")
    ]
    reason: Annotated[str | None, Field(max_length=255)] = Field(
        None, description="Told in the response, in the log and in the audit trail."
    )


class DeliveryResponseDtoEvent(Wire):
    """How a delivery goes. Exactly one DENIED, DONE or ERROR for each request."""

    correlation_id: str
    status: Status
    error_type: ErrorType | None = Field(None, description="With DENIED and ERROR.")
    message: str | None = Field(None, description="The cause, with DENIED and ERROR.")
    url: str | None = Field(
        None, description="With DONE: `s3://bucket/correlationId/name.zip`; as its format says."
    )
    md5: str | None = Field(None, description="With DONE: MD5 of the archive, hex, lower case.")
    size: int | None = Field(
        None,
        description="With DONE: bytes of the archive, or of the manifest.",
    )
    files: int | None = Field(None, description="With DONE: how many files there are.")
    manifest_url: str | None = Field(
        None, description="With DONE: of the list of the files, where there is one."
    )
    sha256: str | None = Field(
        None,
        description="With DONE: SHA-256 of the archive, or of the manifest, hex, lower case; where "
        "the tenant asks for it.",
    )
    expires: str | None = Field(
        None,
        description="With DONE: when it is removed from the target (RFC 3339), where it does not "
        "stay.",
    )
    http_url: str | None = Field(
        None,
        description="With DONE, where the tenant has `link_ttl`: what `url` names, or the manifest "
        "of the files, for any client that has this link.",
    )
    http_url_expires: str | None = Field(
        None, description="When that link ends, at the latest (RFC 3339)."
    )
    missing: int | None = Field(
        None,
        description="With DONE, of a request that takes a part: files that were ordered, and are "
        "not there; the list tells which, and why.",
    )
    report_url: str | None = Field(
        None,
        description="With ERROR, where a report was written: every file, what happened to it, and "
        "what to do.",
    )


class DeliveryProgressDtoEvent(Wire):
    """How far a delivery is. REGARDS has no such event; none has to listen."""

    correlation_id: str
    delivery_id: str = Field(
        description="Its id: a later one may have the same correlation id, and another id."
    )
    activity: Literal["TRANSFERRING", "COMPLETING", "PAUSED"] = Field(
        description="Files are read and sent; all is sent, and the target makes the object appear; "
        "the archive waits for the next suborder of its order."
    )
    attempt: int = Field(description="From 1: which attempt at the transfer this is.")
    bytes_done: int = Field(description="Of the files.")
    bytes_total: int = Field(description="Of the files that are known, by the sizes that are.")
    files_done: int
    files_total: int = Field(description="That are known; a further suborder may bring more.")
    segments_done: int | None = Field(
        None,
        description="Suborders of which all files are in the archive; missing where all of the "
        "order was available when its archive began.",
    )
    segments_total: int | None = Field(
        None, description="Suborders that there are; the least, until the order is done."
    )
    bytes_per_second: int | None = Field(
        None, description="Of this attempt; missing before there is anything to tell."
    )
    estimated_end: str | None = Field(
        None,
        description="When all files are read, at that rate (RFC 3339); missing where that is not "
        "known.",
    )
    time: str = Field(description="When it was so (RFC 3339).")


class OrderRequestDtoEvent(Wire):
    """rs-order is asked for products."""

    queries: list[str]
    filters: OrderFilters | None = None
    user: str
    correlation_id: str
    size_limit_in_bytes: int = Field(description="The tenant's `order_size_limit_bytes`.")


class OrderCancelRequestDtoEvent(Wire):
    """rs-order is told that an order is of no use any more."""

    order_id: int
    correlation_id: str


class NotificationEvent(Wire):
    """Operators of REGARDS are told what they must act on."""

    message: str
    title: str
    sender: str
    level: Literal["INFO", "WARNING", "ERROR", "FATAL"]
    role_recipients: list[str] = Field(description="Roles whose users are told.")
    project_user_recipients: list[str] = Field(description="Users who are told; none.")
    mime_type: str = Field(description="Of the message.")


class OrderResponseDtoEvent(Wire):
    """rs-order tells how an order goes."""

    status: Annotated[OrderStatus, Field(strict=False)]
    correlation_id: _NotBlank
    order_id: _Long | None = None
    message: _Text | None = None
    download_link: _Text | None = Field(None, description="Not used.")
    error_type: _Text | None = Field(None, description="Mapped by name to the response's.")
    error_code: _Text | None = Field(None, description="What older versions call errorType.")
    errors: Annotated[_Long | None, Field(description="Files in error; null is none.")] = None
    total_sub_orders: _Long | None = None
    sub_order_id: _Long | None = Field(
        None, description="With SUBORDER_DONE: whose files can be downloaded now."
    )


_WORDS = {
    "missing": "is missing",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must not be blank",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "less_than": "is too large",
    "greater_than_equal": "is too small",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "value_error": "{error}",
    "string_too_short": "must not be empty",
    "string_too_long": "must not be longer than {max_length} characters",
    "too_short": "must have at least one entry",
    "too_long": "must not have more than {max_length} entries",
}


def broken_rules(error: ValidationError) -> list[str]:
    """Say what pydantic found, in words that the sender understands: `field what`.

    Of very many the first, and how many more there are.
    """
    broken = error.errors(include_input=False, include_url=False)
    rules = [_in_words(item) for item in broken[:_MAX_RULES]]
    more = len(broken) - len(rules)
    return [*rules, f"and {more:,} more"] if more else rules


def _in_words(item: Any) -> str:
    words = _WORDS.get(item["type"], "is not valid")
    context = {k: str(v).replace("'", "") for k, v in item.get("ctx", {}).items()}
    return f"{'.'.join(map(str, item['loc']))} {words.format(**context)}"
