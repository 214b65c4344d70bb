"""What roles of a site stand for: DELIVERY_ROLES, strict and in words."""

from __future__ import annotations

import jwt
import pytest

from app.errors import ConfigurationError
from app.roles import PROVIDER, REGARDS, role_map
from app.settings import load_settings
from tests.command import delivery

SECRET = "a-secret-of-more-than-32-bytes-for-tests"


def test_each_role_of_the_site_stands_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_ROLES", " support=READ_ONLY, ops team = EXPLOIT,")
    assert role_map(load_settings().roles) == {"support": "READ_ONLY", "ops team": "EXPLOIT"}


def test_a_role_may_be_bound_to_whose_tokens_name_it() -> None:
    given = ("ops=READ_ONLY", "oidc:ops=INSTANCE_ADMIN", "regards:admins=ADMIN", "urn:a:b=EXPLOIT")
    plain = {"ops": "READ_ONLY", "urn:a:b": "EXPLOIT"}
    assert role_map(given, issuer=REGARDS) == plain | {"admins": "ADMIN"}
    assert role_map(given, issuer=PROVIDER) == plain | {"ops": "INSTANCE_ADMIN"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("support", "'support' must be name=ROLE, such as support=READ_ONLY"),
        ("support=", "'support=' must be name=ROLE"),
        ("=ADMIN", "'=ADMIN' must be name=ROLE"),
        ("support=read_only", "support=read_only: the role must be one of READ_ONLY, REGISTERED_"),
        ("support=PUBLIC", "support=PUBLIC: the role must be one of"),
        ("a=b=ADMIN", "a=b=ADMIN: the role must be one of"),
        ("oidc:=ADMIN", "'oidc:=ADMIN' must be name=ROLE"),
        ("oidc:a=ADMIN,oidc:a=EXPLOIT", "a stands for ADMIN and for EXPLOIT; leave one out"),
        ("oidc:PUBLIC=EXPLOIT", "PUBLIC is a role of its own"),
        ("EXPLOIT=ADMIN", "EXPLOIT is a role of its own, and can't stand for another"),
        ("PUBLIC=EXPLOIT", "PUBLIC is a role of its own"),
        ("READ_ONLY=ADMIN", "READ_ONLY is a role of its own"),
        ("a=ADMIN,a=EXPLOIT", "a stands for ADMIN and for EXPLOIT; leave one out"),
        ("a\x1b=ADMIN", "'a\\x1b' is no name of a role that a token could have"),
    ],
)
def test_a_mistake_in_the_roles_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.setenv("DELIVERY_ROLES", given)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert f"DELIVERY_ROLES: {told}" in str(raised.value)


@pytest.mark.parametrize("role", ["READ_ONLY", "support"])
def test_a_token_is_made_for_a_role_that_opens_something(role: str) -> None:
    made = delivery(
        *("token", "--role", role, "--tenant", "t"),
        DELIVERY_JWT_SECRET=SECRET,
        DELIVERY_ROLES="support=READ_ONLY",
        DELIVERY_DATABASE_URL="postgresql://u@127.0.0.1:1/d",
    )
    assert made.returncode == 0, made.stderr
    assert jwt.decode(made.stdout.strip(), SECRET, algorithms=["HS256"])["role"] == role


def test_no_token_is_made_for_a_role_that_opens_nothing() -> None:
    made = delivery(
        *("token", "--role", "suport"),
        DELIVERY_JWT_SECRET=SECRET,
        DELIVERY_ROLES="support=READ_ONLY",
    )
    assert made.returncode == 2
    assert "unknown role suport: it would open nothing; take one of READ_ONLY" in made.stderr
    assert "support" in made.stderr
