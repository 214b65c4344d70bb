"""Who may look at everything: operators' tokens for a service on a stack."""

from __future__ import annotations

from compose.embedded.stack import Stack
from tests.builders import make_token


def instance_admin(stack: Stack) -> dict[str, str]:
    """Return the header of one who administers all tenants."""
    environment = stack.environment
    secret = environment.get("DELIVERY_JWT_SECRET") or environment["DELIVERY_RS_ORDER_TOKEN_SECRET"]
    return {"Authorization": f"Bearer {make_token(secret, role='INSTANCE_ADMIN')}"}
