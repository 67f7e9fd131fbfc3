import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.mapping.patterns import MAX_LENGTH, Pattern, PatternError, PatternIndex, is_event_type

SEGMENTS = st.sampled_from(["order", "line", "created", "a", "b-c", "d_1"])
TYPES = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.lists(SEGMENTS | st.just("*"), min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "event_type", "matches"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.created.late", False),
        ("order.created", "order", False),
        ("order.created", "Order.created", False),
        ("order.*", "order.created", True),
        ("order.*", "order.line.added", True),
        ("order.*", "order", False),
        ("order.*", "orders.created", False),
        ("*.created", "order.created", True),
        ("*.created", "order.line.created", False),
        ("order.*.paid", "order.7.paid", True),
        ("order.*.paid", "order.7.8.paid", False),
        ("*.*", "order", False),
        ("*.*", "order.line.added", True),
        ("*", "order", True),
        ("*", "order.line.added", True),
        ("docusign.envelope-completed", "docusign.envelope-completed", True),
    ],
)
def test_a_pattern_matches_whole_segments(pattern: str, event_type: str, *, matches: bool) -> None:
    assert Pattern.parse(pattern).matches(event_type) is matches
    assert bool(PatternIndex([(Pattern.parse(pattern), "s")]).match(event_type)) is matches


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1 to 255"),
        ("a" * (MAX_LENGTH + 1), "1 to 255"),
        ("order..paid", "Segment 2 is empty"),
        (".order", "Segment 1 is empty"),
        ("order.", "Segment 2 is empty"),
        ("order.cre*", "whole segment"),
        ("order.**", "whole segment"),
        ("order.>", "may hold only"),
        ("order paid", "may hold only"),
        ("órder", "may hold only"),
        ("order\n", "may hold only"),
    ],
)
def test_a_wrong_pattern_is_refused_with_its_reason(text: str, what: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern.parse(text, pointer="/event_types/0")
    assert what in caught.value.message
    assert caught.value.faults[0].pointer == "/event_types/0"


def test_values_come_once_and_in_order() -> None:
    index = PatternIndex(
        [
            (Pattern.parse("*"), "all"),
            (Pattern.parse("order.created"), "orders"),
            (Pattern.parse("order.*"), "orders"),
            (Pattern.parse("*.created"), "created"),
            (Pattern.parse("invoice.*"), "invoices"),
        ]
    )
    assert index.match("order.created") == ("all", "orders", "created")
    assert index.match("order.created") == ("all", "orders", "created")
    assert index.match("invoice.paid") == ("all", "invoices")


def test_an_index_forgets_types_rather_than_grow() -> None:
    index = PatternIndex([(Pattern.parse("a.*"), 1)])
    for number in range(10_000):
        assert index.match(f"a.{number}") == (1,)
    assert len(index._seen) <= 4096


@given(st.lists(PATTERNS, max_size=12), TYPES)
def test_the_index_agrees_with_the_single_patterns(texts: list[str], event_type: str) -> None:
    patterns = [Pattern.parse(text) for text in texts]
    index = PatternIndex(list(zip(patterns, range(len(patterns)), strict=True)))
    expected = tuple(number for number, pattern in enumerate(patterns) if pattern.matches(event_type))
    assert index.match(event_type) == expected


@pytest.mark.parametrize("text", ["", "order.", ".order", "a..b", "*", "order.*", "a b", "é", "order\n", "a" * 256])
def test_what_cannot_name_an_event_type(text: str) -> None:
    assert not is_event_type(text)


@given(TYPES)
def test_dotted_segments_name_an_event_type(event_type: str) -> None:
    assert is_event_type(event_type)
    assert Pattern.parse(event_type).matches(event_type)
