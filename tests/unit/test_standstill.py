"""What is told of partitions that stand still."""

from __future__ import annotations

from aiokafka import TopicPartition
from structlog.testing import capture_logs

from streams.kafka.standstill import Standstills
from tests.builders import Clock

HERE, ELSEWHERE = TopicPartition("t", 0), TopicPartition("t", 1)
MINUTE = 60.0


def told(*looks: dict[TopicPartition, tuple[int, int]] | None) -> list[dict[str, object]]:
    """Return what is logged of looks that are half a minute apart; None: Kafka did not answer."""
    clock = Clock()
    standstills = Standstills(MINUTE, whose=lambda partition: f"of {partition.partition}")
    standstills.clock = clock
    with capture_logs() as logs:
        for look in looks:
            if look is None:
                standstills.forget()
            else:
                standstills.look(look)
            clock.now += MINUTE / 2
    return [dict(line) for line in logs]


def test_a_partition_that_stands_still_is_told_once_with_where_it_is_and_whose() -> None:
    (line,) = told(*[{HERE: (3, 5), ELSEWHERE: (4, 4)}] * 6)
    assert (line["event"], line["log_level"]) == ("events_stand_still", "warning")
    assert line["partitions"] == ["t/0 at 3 of 5: of 0"]
    assert (line["events"], line["seconds"]) == (2, 60)


def test_a_further_partition_is_told_with_those_that_stand_still_already() -> None:
    here, both = {HERE: (3, 5), ELSEWHERE: (4, 4)}, {HERE: (3, 5), ELSEWHERE: (4, 5)}
    _, line = told(here, here, both, both, both, both)
    assert line["partitions"] == ["t/0 at 3 of 5: of 0", "t/1 at 4 of 5: of 1"]


def test_it_is_told_that_a_partition_moves_again() -> None:
    still = {HERE: (3, 5)}
    _, line = told(still, still, still, {HERE: (4, 5)})
    assert (line["event"], line["partitions"]) == ("events_move_again", ["t/0"])


def test_partitions_that_move_or_have_nothing_to_read_are_not_told() -> None:
    assert not told(*({HERE: (number, 9), ELSEWHERE: (9, 9)} for number in range(6)))


def test_time_in_which_kafka_does_not_tell_does_not_count() -> None:
    still = {HERE: (3, 5)}
    assert not told(still, still, None, still, still, None, still)


def test_a_group_beyond_the_end_of_a_partition_stands_still() -> None:
    (line,) = told(*[{HERE: (6, 5)}] * 4)
    assert (line["partitions"], line["events"]) == (["t/0 at 6 of 5: of 0"], 1)
