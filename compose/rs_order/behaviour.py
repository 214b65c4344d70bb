"""What the stand-in does now: how it is set up, how it misbehaves. Both change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from compose.rs_order.faults import Faults
from compose.rs_order.switches import Switches


@dataclass(kw_only=True)
class Behaviour:
    """One for the whole process; what is changed holds from then on."""

    switches: Switches = field(default_factory=Switches)
    faults: Faults = field(default_factory=Faults)
