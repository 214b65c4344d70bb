"""What tenants set of a folder: an entry of `delivery_targets`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.settings.texts import folder
from app.tenants.definitions import Prefix, Value

Folder = Annotated[
    str,
    AfterValidator(folder),
    Field(json_schema_extra={"pattern": "^/.", "maxLength": 1024}),
]


class FileSettings(Value):
    """A folder of a shared file system, mounted by every worker at the same path."""

    type: Literal["file"]
    path: Folder = Field(description="The folder; it is there, in one that the operator allows.")
    prefix: Prefix | None = Field(None, description="Folders in it, which are made.")
    mode: str | None = Field(
        None,
        pattern="^0[4-7][0-7]{2}$",
        description="Who may do what with an archive, octal; folders that are made can be entered "
        "by those who may read. Without: `0640`.",
    )
    group: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$",
        description="Group that archives and folders are given to: a name that the workers know, "
        "or a number. Without: as the file system does.",
    )
