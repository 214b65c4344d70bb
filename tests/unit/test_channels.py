"""Each kind of message has one row in the table of channels, and each row names of its own."""

from __future__ import annotations

from collections import Counter

from app.delivery.ingress import ArrivalKind
from app.delivery.outgoing import Kind, Lane
from streams.channels import AMQP, CHANNELS, KAFKA, of_arrival, over_amqp, over_kafka
from tests.recorded.today.examples import OWED


def test_every_kind_of_arrival_has_a_channel() -> None:
    assert [of_arrival(kind).kind for kind in ArrivalKind] == list(ArrivalKind)


def test_every_kind_of_message_goes_out_where_its_lane_is_relayed_to() -> None:
    lanes = {owed.kind: owed.lane for owed in OWED.values()}
    assert set(lanes) == set(Kind)
    for kind, lane in lanes.items():
        channel = over_kafka(kind) if lane is Lane.EVENTS else over_amqp(kind)
        assert channel.kind is kind


def test_an_example_of_each_kind_fits_the_body_of_its_channel() -> None:
    for owed in OWED.values():
        if owed.lane is Lane.EVENTS:
            event = over_kafka(owed.kind).event
            assert event is not None
            event.model_validate(owed.body)
        else:
            over_amqp(owed.kind).exchange.body.model_validate(owed.body, strict=False)


def test_no_two_channels_share_a_name() -> None:
    names = [
        *(channel.exchange.name for channel in AMQP),
        *(channel.exchange.title for channel in AMQP),
        *(channel.topic.name for channel in KAFKA),
        *(channel.topic.title for channel in KAFKA),
    ]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert {*AMQP, *KAFKA} == set(CHANNELS)
