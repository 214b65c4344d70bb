"""An identity provider of the tests: what OpenID Connect has it publish, and tokens by its keys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.servers import serving

AUDIENCE, CLIENT = "rs-delivery", "rs-delivery-console"
TENANT = "sentinel"


def make_key(algorithm: str = "RS256") -> Any:
    """Return a private key that signs by an algorithm."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: Any, **more: Any) -> dict[str, Any]:
    """Return the public half of a key as a provider publishes it."""
    kinds: Mapping[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    kind = next(kind for type_, kind in kinds.items() if isinstance(key, type_))
    return {**json.loads(kind.to_jwk(key.public_key())), **more}


def private_jwk(kid: str) -> dict[str, Any]:
    """Return a new private key as the provider takes it."""
    made = json.loads(RSAAlgorithm.to_jwk(make_key()))
    del made["key_ops"]  # beside `use`, it finds no key to sign with
    return {**made, "kid": kid, "use": "sig", "alg": "RS256"}


class StandInProvider:
    """Answers discovery, keys and token requests; each test changes what it likes of it."""

    def __init__(self) -> None:
        self.issuer = ""  # once it is served
        self.keys: dict[str, Any] = {}  # that it signs with, by kid
        self.published: list[dict[str, Any]] = []
        self.discovery: dict[str, Any] = {}  # that differs
        self.away = False
        self.asked: list[str] = []  # paths
        self.going = asyncio.Event()  # cleared: no client is answered
        self.going.set()
        self.came = asyncio.Condition()
        self.forms: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}  # what was asked for with each code
        self.refresh_tokens: set[str] = set()
        self.undecided: list[str] = []  # errors for those who wait for a user, in turn
        self.interval: Any = 0  # seconds between their questions
        self.rotate("first")

    def rotate(self, kid: str, algorithm: str = "RS256", *, keep: bool = False) -> None:
        """Sign with another key from now on, and publish it; the ones before, too, with `keep`."""
        key = make_key(algorithm)
        self.keys[kid] = key
        self.signs_by = (kid, algorithm)
        published = public_jwk(key, kid=kid, use="sig", alg=algorithm)
        self.published = [published, *(self.published if keep else [])]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of an access token; None leaves one out."""
        now = int(time.time())
        good = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "u-1",
            "email": "admin@example.org",
            "tenant": TENANT,
            "role": "PROJECT_ADMIN",
            "iat": now,
            "exp": now + 600,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Return a token by the key that is used now."""
        kid, algorithm = self.signs_by
        return jwt.encode(
            self.claims(**changes),
            self.keys[kid],
            algorithm=algorithm,
            headers={"kid": kid, "typ": "at+jwt", **(header or {})},
        )

    def id_token(self, **changes: Any) -> str:
        """Return an ID token of the console's client."""
        own = {"aud": CLIENT, "nonce": "n-1", "at_hash": "x", "tenant": None, "role": None}
        return self.token(header={"typ": "JWT"}, **own | changes)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        async with self.came:
            self.asked.append(request.path)
            self.came.notify_all()
        await self.going.wait()
        if self.away:
            return web.Response(status=503, text="<html>away</html>")
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response(self._said())
            case "/jwks":
                return web.json_response({"keys": self.published})
            case "/device":
                self.forms.append({name: str(v) for name, v in (await request.post()).items()})
                return web.json_response(self._device_code())
            case "/token":
                form = {name: str(value) for name, value in (await request.post()).items()}
                self.forms.append(form)
                return self._granted(form)
        return web.Response(status=404, text="<html>nothing here</html>")

    def _said(self) -> dict[str, Any]:
        said = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "end_session_endpoint": f"{self.issuer}/end",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "code_challenge_methods_supported": ["S256"],
        } | self.discovery
        return {name: value for name, value in said.items() if value is not None}

    def code(self, challenge: str, redirect_uri: str, nonce: str = "n-1") -> str:
        """Return what a user who has signed in comes back with."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = {"challenge": challenge, "uri": redirect_uri, "nonce": nonce}
        return code

    def _device_code(self) -> dict[str, Any]:
        return {
            "device_code": "device-1",
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.issuer}/activate",
            "expires_in": 600,
            "interval": self.interval,
        }

    def _granted(self, form: Mapping[str, str]) -> web.Response:
        refused = web.json_response({"error": "invalid_grant"}, status=400)
        given: dict[str, Any] = {"access_token": self.token(), "token_type": "Bearer"}
        if form["client_id"] != CLIENT:
            return web.json_response({"error": "invalid_client"}, status=401)
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            if asked is None or asked["uri"] != form["redirect_uri"]:
                return refused
            if asked["challenge"] != challenge_of(form["code_verifier"]):
                return refused
            given["id_token"] = self.id_token(nonce=asked["nonce"])
        elif form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            assert form["device_code"] == "device-1"
            if self.undecided:
                error = self.undecided.pop(0)
                return web.json_response({"error": error}, status=502 if error == "away" else 400)
        elif form["refresh_token"] not in self.refresh_tokens:
            return refused
        else:
            self.refresh_tokens.discard(form["refresh_token"])
        given["refresh_token"] = f"refresh-{len(self.forms)}"
        self.refresh_tokens.add(given["refresh_token"])
        return web.json_response(given)


def challenge_of(verifier: str) -> str:
    """Return what PKCE sends ahead of a code verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@contextlib.asynccontextmanager
async def stand_in_provider() -> AsyncIterator[StandInProvider]:
    """Serve one on a port of loopback."""
    provider = StandInProvider()
    async with serving(provider.answer) as port:
        provider.issuer = f"http://127.0.0.1:{port}"
        yield provider
