"""What tenants set of a further bucket: an entry of `delivery_targets`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.settings.s3 import address_of_server
from app.tenants.definitions import Bucket, Prefix, S3Server, Token, Value


class DeliveryTarget(Value):
    """A place for archives that requests choose by its name."""

    type: Literal["s3"] | None = Field(None, description="Kind of the store; this one without.")
    s3_server: S3Server
    bucket: Bucket
    prefix: Prefix | None = Field(None, description="Put before every key, with a / between.")
    addressing_style: Literal["path", "virtual"] = "path"
    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_]{1,64}$")
    encryption: Literal["AES256", "aws:kms"] | None = None
    encryption_key: Token | None = Field(None, description="Key of `aws:kms`.")
    public_endpoint: (
        Annotated[
            str,
            AfterValidator(address_of_server),
            Field(json_schema_extra={"format": "uri", "pattern": "^https?://"}),
        ]
        | None
    ) = Field(
        None,
        description="URL by which clients reach the server, where it is another than this service "
        "does: links are made for it.",
    )
