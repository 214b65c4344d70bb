"""Secrets at rest: sealed with the first key, opened with any.

Fernet (AES-128-CBC and HMAC-SHA-256, of the `cryptography` package): a sealed text that was
tampered with doesn't open, and several keys are what a change of keys needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.errors import ConfigurationError, SecretUnreadableError
from app.settings import Settings
from app.telemetry.logs import get_logger

log = get_logger(__name__)


def make_key() -> str:
    """Return a new key for DELIVERY_SECRET_KEYS."""
    return Fernet.generate_key().decode()


class Vault:
    """Seals and opens secrets. Raises ConfigurationError when a key is no key."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._opening: tuple[str, ...] = ()
        self.use(keys)

    def use(self, keys: Sequence[str]) -> bool:
        """Seal with the first of these from now on, and open with any, and with those before.

        (Others may still seal with those.) Return whether that is new. Raises ConfigurationError;
        then nothing changes.
        """
        for number, key in enumerate(keys, start=1):
            try:
                Fernet(key)
            except ValueError:
                raise ConfigurationError(
                    f"DELIVERY_SECRET_KEYS: key {number} is not one; "
                    "`delivery make-key` prints a good one"
                ) from None
        before, self._opening = self._opening, tuple(dict.fromkeys((*keys, *self._opening)))
        self._keys = MultiFernet(list(map(Fernet, self._opening)))
        return self._opening != before

    def seal(self, secret: str) -> str:
        """Return the secret in a form that may be stored."""
        return self._keys.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the secret. Raises SecretUnreadableError when no key opens it."""
        try:
            return self._keys.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SecretUnreadableError(
                "none of DELIVERY_SECRET_KEYS opens it; add the key that it was sealed with, "
                "or set the secret again"
            ) from None

    def reseal(self, sealed: str) -> str:
        """Seal again with the first key. Raises SecretUnreadableError."""
        return self.seal(self.open(sealed))


def vault_of(settings: Settings) -> Vault:
    """Return what seals secrets here.

    Raises ConfigurationError when a key is no key, or none is configured; in development one is
    made, then.
    """
    keys = [key.get_secret_value() for key in settings.secret_keys]
    if not keys:
        if not settings.development:
            raise ConfigurationError(
                "DELIVERY_SECRET_KEYS is not set: the secrets of tenants are sealed with it. Make "
                "a key with `delivery make-key`, keep it safe, and give every process the same"
            )
        log.warning(
            "secret_key_made",
            cause="DELIVERY_SECRET_KEYS is not set; secrets that are set now can't be read after "
            "a restart, nor by other processes",
        )
        keys = [make_key()]
    return Vault(keys)
