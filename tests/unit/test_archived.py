"""How far a transfer is, is known of the attempt that is under way here, by its last report."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from app.delivery.attempts import Archived
from app.delivery.progress import Phase, Progress
from tests.builders import make_delivery


def test_the_last_report_of_an_attempt_tells() -> None:
    delivery = make_delivery(attempt=2)
    report = Progress(
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        attempt=2,
        phase=Phase.TRANSFERRING,
        bytes_done=7,
        bytes_total=20,
        files_done=1,
        files_total=2,
        elapsed=1.0,
        delivery=delivery.id,
    )
    archived = Archived()
    assert archived.of(delivery) is None
    archived.report(report)
    archived.report(replace(report, bytes_done=9, phase=Phase.FAILED))
    archived.report(replace(report, bytes_done=1, delivery=None))
    archived.report(replace(report, bytes_done=3, delivery=uuid4()))
    assert archived.of(delivery) == 9
    assert archived.of(replace(delivery, attempt=3)) is None
