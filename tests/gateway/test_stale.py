"""The last good answers."""

from datetime import UTC, datetime

from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.stale import StaleAnswers, question_key
from crossdock.kit.clock import FixedClock


def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


def key(*headers: tuple[str, str], url: str = "https://a.example/x", partition: str = "int_1") -> bytes | None:
    return question_key(partition=partition, method="GET", url=url, headers=headers)


def test_an_answer_has_an_age_and_an_end() -> None:
    time = clock()
    answers = StaleAnswers(clock=time)
    answers.put(b"k", (), b"body")
    time.advance(100)
    found = answers.get(b"k", max_age_s=100)
    assert found is not None
    assert (found[0].body, found[1]) == (b"body", 100)
    time.advance(1)
    assert answers.get(b"k", max_age_s=100) is None


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    answers = StaleAnswers(max_bytes=25_000, clock=clock())
    for name in (b"a", b"b"):
        answers.put(name, (), bytes(9_000))
    assert answers.get(b"a", max_age_s=100)
    answers.put(b"c", (), bytes(9_000))
    assert [name for name in (b"a", b"b", b"c") if answers.get(name, max_age_s=100)] == [b"a", b"c"]


def test_an_answer_that_is_too_large_replaces_an_older_one_by_nothing() -> None:
    answers = StaleAnswers(max_answer_bytes=10, clock=clock())
    answers.put(b"k", (), b"small")
    answers.put(b"k", (), bytes(200_000))
    assert answers.get(b"k", max_age_s=100) is None


def test_what_an_answer_depends_on_is_part_of_the_question() -> None:
    account: HeaderPairs = (("Stripe-Account", "acct_1"),)
    questions = {
        key(),
        key(partition="int_2"),
        key(url="https://a.example/y"),
        key(*account),
        key(("stripe-account", "acct_2")),
        key(("Accept", "text/csv")),
    }
    assert len(questions) == 6
    assert key(*account, ("User-Agent", "x"), ("traceparent", "y")) == key(("stripe-account", "acct_1"))


def test_a_question_about_a_part_or_a_change_is_not_remembered() -> None:
    assert key(("Range", "bytes=0-1")) is None
    assert key(("If-None-Match", '"x"')) is None
