import pytest

from crossdock.mapping.expressions import EvaluationError, ExpressionError
from crossdock.mapping.filters import compile_filter


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_the_false_values_of_jmespath_do_not_pass(value: object) -> None:
    assert not compile_filter("v").accepts({"v": value})


@pytest.mark.parametrize("value", [True, 0, 0.0, "0", [0], {"a": None}])
def test_everything_else_passes(value: object) -> None:
    assert compile_filter("v").accepts({"v": value})


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("data.amount > `100`", True),
        ("data.amount < `100`", False),
        ("data.amount > `100` && data.currency == 'EUR'", True),
        ("data.tags[?@ == 'urgent']", True),
        ("data.tags[?@ == 'late']", False),
        ("contains(data.tags, 'urgent')", True),
        ("starts_with(type, 'order.')", True),
        ("data.missing == 'x'", False),
    ],
)
def test_a_filter_decides(text: str, *, passes: bool) -> None:
    event = {"type": "order.created", "data": {"amount": 120, "currency": "EUR", "tags": ["urgent"]}}
    assert compile_filter(text).accepts(event) is passes


def test_a_filter_that_cannot_decide_says_so() -> None:
    with pytest.raises(EvaluationError):
        compile_filter("starts_with(data.name, 'a')").accepts({"data": {}})


def test_a_wrong_filter_names_its_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_filter("data[", pointer="/filter")
    assert caught.value.faults[0].pointer == "/filter"
