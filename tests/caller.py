"""Who may look at everything: operators' tokens for a service on a stack."""

from __future__ import annotations

import time

import jwt

from compose.embedded.stack import TENANT, Stack


def instance_admin(stack: Stack) -> dict[str, str]:
    """Return the header of one who administers all tenants."""
    environment = stack.environment
    secret = environment.get("DELIVERY_JWT_SECRET") or environment["DELIVERY_RS_ORDER_TOKEN_SECRET"]
    claims = {
        "tenant": TENANT,
        "sub": "operator@example.org",
        "email": "operator@example.org",
        "role": "INSTANCE_ADMIN",
        "exp": int(time.time()) + 3600,
    }
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS512')}"}
