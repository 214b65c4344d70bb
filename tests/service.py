"""The service on a stack, begun without importing anything anew: `tests.nursery` tells how."""

from __future__ import annotations

import functools

from compose.embedded import stack
from tests import nursery

running_service = functools.partial(stack.running_service, start=nursery.start)
