"""REGARDS: rs-order, rs-admin, and its authentication."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from app.delivery.ports import OrderSource, Users
from app.settings import Settings
from app.waiting.backoff import Backoff
from streams.regards.orders import RsOrder, open_session
from streams.regards.presence import Presence
from streams.regards.resume import Resumption
from streams.regards.sign_in import PasswordFlow
from streams.regards.tokens import TokenSigner
from streams.regards.users import AnyUser, AskedLater, RsAdmin


def signer_of(settings: Settings) -> TokenSigner:
    """Return what signs the tokens for rs-order and rs-admin."""
    return TokenSigner(
        settings.rs_order_token_secret.get_secret_value(), ttl=settings.rs_order_token_ttl
    )


@contextlib.asynccontextmanager
async def open_regards(
    settings: Settings, signer: TokenSigner
) -> AsyncIterator[tuple[OrderSource, Users]]:
    """Open rs-order and rs-admin (where there is none, every user may order).

    Raises ConfigurationError when the file of a CA can't be used.
    """
    async with open_session(
        stall_timeout=settings.source_stall_timeout, ca=settings.http_ca
    ) as session:
        source = RsOrder(
            session,
            signer,
            url=settings.rs_order_url,
            page_size=settings.available_files_bulk_size,
            stall_timeout=settings.source_stall_timeout,
            resumption=Resumption(
                tries=settings.source_resume_tries,
                backoff=Backoff(first=settings.retry_backoff, longest=settings.retry_backoff_max),
            ),
        )
        users = (
            RsAdmin(session, signer, url=settings.rs_admin_url)
            if settings.rs_admin_url
            else AnyUser()
        )
        yield source, users


@contextlib.asynccontextmanager
async def open_users(settings: Settings, signer: TokenSigner) -> AsyncIterator[Users]:
    """Open rs-admin alone, for a process that asks it now and then, and has no rs-order.

    Without the secret that it is asked with, the workers do. Raises as `open_regards` does.
    """
    if not settings.rs_admin_url or not settings.rs_order_token_secret.get_secret_value():
        yield users_asked_later(settings)
        return
    async with open_session(
        stall_timeout=settings.source_stall_timeout, ca=settings.http_ca
    ) as session:
        yield RsAdmin(session, signer, url=settings.rs_admin_url)


def users_asked_later(settings: Settings) -> Users:
    """Return what a process knows of users that leaves asking rs-admin to the workers."""
    return AskedLater() if settings.rs_admin_url else AnyUser()


def rs_order_check(settings: Settings) -> Callable[[], Awaitable[None]]:
    """Return what raises SourceUnavailableError unless rs-order answers.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    return Presence(settings.rs_order_url, ca=settings.http_ca).check


def password_flow(settings: Settings) -> PasswordFlow | None:
    """Return what signs users in at REGARDS; None where that is not configured.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    if not settings.oauth_url:
        return None
    secret = settings.oauth_client_secret.get_secret_value()
    return PasswordFlow(
        settings.oauth_url, client=settings.oauth_client, secret=secret, ca=settings.http_ca
    )
