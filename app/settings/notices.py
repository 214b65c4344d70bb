"""Notices to the operators of REGARDS: whether there are any, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.settings.names import Section, from_list


class NoticeSection(Section):
    """Whom REGARDS tells what operators must act on."""

    notice_roles: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Roles of REGARDS, separated by commas, whose users are told what operators "
        "must act on, as REGARDS' `NotificationEvent`. Empty: nothing is told.",
    )
    notice_interval: float = Field(
        3600,
        gt=0,
        description="Seconds in which a worker tells the same thing once, however often it is met.",
    )

    @field_validator("notice_roles", mode="before")
    @classmethod
    def _split_notice_roles(cls, value: object) -> object:
        return from_list(value)
