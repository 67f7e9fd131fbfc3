"""Figures made of what generator and receiver noted."""

import math
from array import array

from bench.benches.inbound import overtaken
from bench.costs import Spent, costs_of
from bench.figures import first_receipts, percentile, since_accepted_ms, since_sent_ms
from bench.passage import Drained, doubles
from bench.reckoning import Reckoning
from bench.wire import Publications, Receipts


def test_a_percentile_is_a_value_that_came() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.50) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7
    assert percentile([], 0.99) == 0


def test_only_the_first_arrival_of_an_event_at_a_destination_counts() -> None:
    receipts = arrived((1, 0, 5, 10.0), (1, 0, 5, 11.0), (1, 1, 6, 12.0))
    assert first_receipts(receipts) == {(1, 0): 10.0, (1, 1): 12.0}


def test_what_arrives_before_its_202_took_no_time() -> None:
    publications = Publications(1, sent=array("d", [9.0, 9.0]), accepted=array("d", [10.0, 10.0]))
    arrivals = {(1, 0): 9.5, (2, 0): 10.5}
    assert since_accepted_ms(publications, arrivals) == [0, 500]
    assert since_sent_ms(publications, arrivals) == [500, 1500]


def test_a_delivery_is_a_double_when_it_comes_to_one_destination_twice() -> None:
    assert doubles(arrived((1, 0, 5, 0.0), (1, 1, 5, 0.0), (2, 0, 6, 0.0))) == 0
    assert doubles(arrived((1, 0, 5, 0.0), (1, 0, 5, 0.1), (1, 0, 5, 0.2))) == 1


def test_what_was_drained_is_counted_from_the_first_to_the_last() -> None:
    done = Drained(arrived((1, 0, 1, 10.0), (2, 0, 2, 11.0), (3, 0, 3, 12.0)), costs={})
    assert done.per_s() == 1.5
    assert done.per_s(answer_s=1.0) == 1.0


def test_costs_are_for_each_of_what_was_done() -> None:
    before, after = Spent(1.0, 2.0, 100, 10, 1000), Spent(3.0, 2.5, 500, 14, 3000)
    assert costs_of("event", 4, before, after) == {
        "hub_cpu_us_per_event": 500_000,
        "postgres_cpu_us_per_event": 125_000,
        "wal_bytes_per_event": 100,
        "commits_per_event": 1,
        "stored_bytes_per_event": 500,
    }


def test_the_reckoning_tells_lost_repeated_and_accepted_twice_apart() -> None:
    publications = Publications(
        7, sent=array("d", [0.0, 0.0, 0.0, 0.0]), accepted=array("d", [0.1, 0.1, 0.1, math.nan])
    )
    reckoning = Reckoning()
    # 7 comes twice under one id, 8 under two ids, 9 not at all, and 10 was never answered.
    reckoning.add(publications, arrived((7, 0, 1, 0.0), (7, 0, 1, 0.0), (8, 0, 2, 0.0), (8, 0, 3, 0.0)), sent=4)
    assert reckoning == Reckoning(accepted=3, unique_delivered=2, lost=1, duplicates=2, accepted_twice=1, unanswered=1)


def test_a_webhook_overtakes_one_that_was_answered_before_it_was_sent() -> None:
    publications = Publications(7, sent=array("d", [0.0, 1.0, 2.0]), accepted=array("d", [0.5, 2.5, 2.9]))
    assert overtaken(publications, in_order(7, 8, 9)) == 0
    assert overtaken(publications, in_order(7, 9, 8)) == 0  # both were under way
    assert overtaken(publications, in_order(8, 9, 7)) == 1


def test_receipts_survive_being_written_down() -> None:
    receipts = arrived((1, 0, -5, 10.0), (2**40, 3, 6, 12.0))
    assert Receipts.load(receipts.dump()) == receipts


def arrived(*came: tuple[int, int, int, float]) -> Receipts:
    """Of each: number, destination, hash of the webhook-id, time."""
    receipts = Receipts.blank()
    for number, destination, message_id, moment in came:
        receipts.add(number, moment, message_id, destination)
    return receipts


def in_order(*numbers: int) -> Receipts:
    return arrived(*((number, 0, 0, 0.0) for number in numbers))
