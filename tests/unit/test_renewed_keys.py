"""Keys that are replaced while a process runs: what seals, what signs, what checks."""

from __future__ import annotations

import jwt
import pytest

from app.errors import ConfigurationError, SecretUnreadableError
from app.run.wiring.callers import keys_of
from app.settings import Settings
from app.tenants.secret_rules import PUBLIC_SEAL_KEYS, check_renewed
from app.tenants.vault import Vault, make_key
from streams.regards.tokens import TokenSigner
from tests.builders import make_token
from web.guard.auth import TokenVerifier
from web.guard.errors import NotSignedInError

ONE, OTHER = "one-secret-" * 6, "other-secret-" * 6


def test_a_new_key_seals_and_those_before_go_on_to_open() -> None:
    old, new = make_key(), make_key()
    vault = Vault([old])
    sealed = vault.seal("secret")
    assert vault.use([new])
    assert vault.open(sealed) == "secret"
    after = vault.seal("secret")
    assert Vault([new]).open(after) == "secret"
    with pytest.raises(SecretUnreadableError):
        Vault([old]).open(after)
    assert not vault.use([new])


def test_a_key_that_is_none_changes_nothing() -> None:
    old = make_key()
    vault = Vault([old])
    with pytest.raises(ConfigurationError, match="DELIVERY_SECRET_KEYS: key 2 is not one"):
        vault.use([make_key(), "nonsense"])
    assert Vault([old]).open(vault.seal("secret")) == "secret"


def test_tokens_for_regards_are_signed_with_the_new_secret_at_once() -> None:
    signer = TokenSigner(ONE, ttl=300)
    before = signer.token("t", "u")
    assert not signer.sign_with(ONE)
    assert signer.token("t", "u") == before
    assert signer.sign_with(OTHER)
    claims = jwt.decode(signer.token("t", "u"), OTHER, algorithms=["HS512"])
    assert claims["sub"] == "u"


def test_tokens_of_callers_are_checked_with_the_new_secret_alone() -> None:
    verifier = TokenVerifier(secret=ONE, public_key="")
    settings = Settings(tenants=("t",), jwt_secret=OTHER, jwt_former_secrets=())
    verifier.keys = keys_of(settings)
    assert verifier.verify(make_token(OTHER)).tenant
    with pytest.raises(NotSignedInError):
        verifier.verify(make_token(ONE))


def test_what_nothing_starts_with_is_not_taken_later_either() -> None:
    settings = Settings(
        tenants=("t",), secret_keys=tuple(PUBLIC_SEAL_KEYS), jwt_secret="short", development=False
    )
    check_renewed(settings, "s3_key")
    with pytest.raises(ConfigurationError, match="DELIVERY_SECRET_KEYS key 1 is public"):
        check_renewed(settings, "secret_keys")
    with pytest.raises(ConfigurationError, match="DELIVERY_JWT_SECRET has fewer than 32 bytes"):
        check_renewed(settings, "jwt_secret", "jwt_public_key")
    check_renewed(settings.model_copy(update={"development": True}), "jwt_secret")
