"""The service on a stack, started without importing it again; see `tests.nursery`."""

from __future__ import annotations

import functools

from compose.embedded import stack
from tests import nursery

running_service = functools.partial(stack.running_service, start=nursery.start)
