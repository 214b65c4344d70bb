"""Several keys of a kind at once, so that they can be changed while tokens are about."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.errors import ConfigurationError
from app.settings import load_settings
from tests.builders import make_token
from web.guard.auth import TokenVerifier
from web.guard.errors import NotSignedInError
from web.guard.keys import TokenKeys

NEW, OLD, OTHER = ("n" * 64, "o" * 64, "x" * 64)


def pair() -> tuple[str, str]:
    """Return a private RSA key and its public half, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


FIRST, SECOND, THIRD = pair(), pair(), pair()


def test_tokens_of_the_secret_before_are_good_while_it_is_changed() -> None:
    verifier = TokenVerifier(secret=NEW, public_key="", former_secrets=[OLD])
    for secret in (NEW, OLD):
        assert verifier.verify(make_token(secret)).name == "admin@example.org"
    with pytest.raises(NotSignedInError, match="not valid"):
        verifier.verify(make_token(OTHER))
    with pytest.raises(NotSignedInError, match="expired"):
        verifier.verify(make_token(OLD, exp=1))


@pytest.mark.parametrize("between", ["", "\n", "\r\n\r\n"])
def test_tokens_of_each_public_key_are_good(between: str) -> None:
    verifier = TokenVerifier(secret="", public_key=FIRST[1] + between + SECOND[1])
    for private, _ in (FIRST, SECOND):
        signed = make_token(private, algorithm="RS256")
        assert verifier.verify(signed).name == "admin@example.org"
    with pytest.raises(NotSignedInError, match="not valid"):
        verifier.verify(make_token(THIRD[0], algorithm="RS256"))
    with pytest.raises(NotSignedInError, match="not signed in a way"):
        verifier.verify(make_token(OLD))


@pytest.mark.parametrize("behind", ["nonsense", FIRST[0], SECOND[1][:-30]])
def test_what_is_no_public_key_among_several_is_told(behind: str) -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_JWT_PUBLIC_KEY") as raised:
        TokenVerifier(secret="", public_key=FIRST[1] + behind)
    assert "PRIVATE" not in str(raised.value)


def test_keys_are_replaced_while_requests_are_answered() -> None:
    verifier = TokenVerifier(secret=OLD, public_key="")
    verifier.keys = TokenKeys(secrets=[NEW])
    assert verifier.verify(make_token(NEW)).name == "admin@example.org"
    with pytest.raises(NotSignedInError):
        verifier.verify(make_token(OLD))


def test_former_secrets_are_read_from_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_JWT_FORMER_SECRETS", f"{OLD}, {OTHER}")
    former = load_settings().jwt_former_secrets
    assert [each.get_secret_value() for each in former] == [OLD, OTHER]
