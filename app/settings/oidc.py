"""The site's identity provider (OpenID Connect), whose tokens callers bring."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from app.network.urls import keeps_secrets
from app.settings.names import Section, from_list
from app.settings.texts import line, without_credentials

_ISSUER = "DELIVERY_OIDC_ISSUER"
# What the console says itself when it sends a user to the provider.
_OWN_PARAMETERS = frozenset(
    {
        *("response_type", "response_mode", "client_id", "redirect_uri", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method", "request", "request_uri"),
    }
)


class OidcSection(Section):
    """Which provider is believed, and where its tokens say who a caller is."""

    oidc_issuer: str = Field(
        "",
        description="Issuer of an OpenID Connect provider, as its tokens name it (`iss`): its "
        "tokens are taken, with the keys that it publishes. `https`, but on loopback. Empty: none.",
    )
    oidc_audience: str = Field(
        "",
        description="What the provider's access tokens must name in `aud` to be for this service; "
        "needed with `oidc_issuer`.",
    )
    oidc_client_id: str = Field(
        "",
        description="Public client (PKCE, no secret) by which the console signs users in at the "
        "provider, with `…/console` as its redirect URI; empty: the console does not.",
    )
    oidc_scopes: str = Field(
        "openid", description="Scopes that the console asks for, separated by blanks."
    )
    oidc_parameters: str = Field(
        "",
        description="What else the console sends the provider when it asks for a code, as in a "
        "query: `audience=…` (Auth0), `resource=…`, `kc_idp_hint=…`.",
    )
    oidc_user_claims: Annotated[tuple[str, ...], NoDecode] = Field(
        ("email", "sub"),
        description="Claims that name the user, separated by commas: the first that there is. "
        "`email` does not count where `email_verified` is false.",
    )
    oidc_tenant_claim: str = Field(
        "tenant",
        description="Claim that names the tenant; with dots into what is nested, as in the next.",
    )
    oidc_role_claim: str = Field(
        "role",
        description="Claim with the role, or a list of which the highest known role counts: "
        "`realm_access.roles` (Keycloak).",
    )
    oidc_tenant: str = Field(
        "",
        description="The tenant of every token of the provider, in place of the claim, where there "
        "is one tenant.",
    )

    @field_validator("oidc_user_claims", mode="before")
    @classmethod
    def _split_claims(cls, value: object) -> object:
        return from_list(value)

    @field_validator("oidc_issuer")
    @classmethod
    def _keeps_what_it_is_sent(cls, value: str) -> str:
        if not value:
            return value
        without_credentials(line(value))
        if not keeps_secrets(value):
            raise ValueError("must begin with https:// (http:// on loopback only)")
        if urlsplit(value).query or urlsplit(value).fragment:
            raise ValueError("must have no query and no fragment")
        return value

    @field_validator("oidc_audience", "oidc_client_id", "oidc_tenant")
    @classmethod
    def _goes_with_an_issuer(cls, value: str, info: ValidationInfo) -> str:
        issuer = info.data.get("oidc_issuer")
        if issuer is None:
            return value  # it is refused itself
        if value and not issuer:
            raise ValueError(f"not used without {_ISSUER}: set it, too")
        return line(value) if value else value

    @field_validator("oidc_audience")
    @classmethod
    def _tells_tokens_for_others(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not value:
            raise ValueError(
                f"needed, as {_ISSUER} is set: without, a token for any other service of the "
                "provider would be taken"
            )
        return value

    @field_validator("oidc_user_claims")
    @classmethod
    def _names_users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name a claim")
        return value

    @field_validator("oidc_tenant_claim", "oidc_role_claim")
    @classmethod
    def _names_a_claim(cls, value: str) -> str:
        return line(value)

    @field_validator("oidc_scopes")
    @classmethod
    def _asks_for_an_identity(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must have openid among them")
        return value

    @field_validator("oidc_parameters")
    @classmethod
    def _are_not_the_consoles_own(cls, value: str) -> str:
        try:
            given = parse_qsl(value, keep_blank_values=True, strict_parsing=bool(value))
        except ValueError:
            raise ValueError("can't be read as name=value&name=value") from None
        own = sorted(name for name, _ in given if name in _OWN_PARAMETERS)
        if own:
            raise ValueError(f"must not have {', '.join(own)}: the console says that itself")
        return value
