import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.mapping.expressions import (
    MAX_LENGTH,
    EvaluationError,
    ExpressionError,
    compile_expression,
    search,
)

ORDER = {
    "id": "evt_1",
    "type": "order.created",
    "data": {"number": 7, "lines": [{"sku": "A", "price": 2.5}, {"sku": "B", "price": 4}], "note": ""},
}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("type", "order.created"),
        ("data.lines[*].sku", ["A", "B"]),
        ("data.lines[?price > `3`].sku | [0]", "B"),
        ("{number: data.number, skus: data.lines[].sku}", {"number": 7, "skus": ["A", "B"]}),
        ("sum(data.lines[].price)", 6.5),
        ("data.missing", None),
        ("join(',', data.lines[].sku)", "A,B"),
        ("to_string(data.lines[0])", '{"sku":"A","price":2.5}'),
        ("data.lines == data.lines", True),
        ("data.lines[::-1].sku", ["B", "A"]),
        ("sort_by(data.lines, &price)[-1].sku", "B"),
        ("data.* | length(@)", 3),
        ("'raw' == `\"raw\"`", True),
    ],
)
def test_an_expression_finds_its_part(expression: str, expected: object) -> None:
    assert search(expression, ORDER) == expected


@pytest.mark.parametrize(
    ("expression", "column", "what"),
    [
        ("", None, "empty"),
        ("  \n ", None, "empty"),
        ("data.", 6, "ends too early"),
        ("data.lines[", 12, "ends too early"),
        ("data..id", 6, "unexpected '.'"),
        ("a b", 3, "unexpected 'b'"),
        ("foo = 'x'", 5, "unknown token '='"),
        ("'open", 1, "unclosed"),
        ("upper(type)", 1, "no function upper()"),
        ("data | length()", 8, "length() takes 1 argument, not 0"),
        ("merge()", 1, "at least 1"),
        ("`NaN`", None, "literal is not JSON"),
        ("a" * (MAX_LENGTH + 1), None, str(MAX_LENGTH)),
        ("(" * 2000 + "a" + ")" * 2000, None, "nested deeper"),
        ("!" * 4000 + "a", None, "nested deeper"),
        ("a|" * 500 + "a", None, "nested deeper"),
        ("`" + "[" * 2000 + "]" * 2000 + "`", None, "nested deeper"),
    ],
)
def test_a_wrong_expression_says_what_and_where(expression: str, column: int | None, what: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(expression, pointer="/transformation")
    assert what in caught.value.what
    assert caught.value.column == column
    assert caught.value.faults[0].pointer == "/transformation"
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "expression",
    [
        "abs(type)",
        "contains(type, `1`)",
        "data.lines[::0]",
        "max_by(data.lines, &note)",
        "sum(data.lines[].sku)",
        "&data",
        "{a: &data}",
        "to_number('nan')",
        "[to_number('1e999')]",
    ],
)
def test_an_expression_that_does_not_fit_the_document_is_a_named_error(expression: str) -> None:
    compiled = compile_expression(expression)
    with pytest.raises(EvaluationError):
        compiled.search(ORDER)


def test_a_type_error_does_not_repeat_the_private_value() -> None:
    with pytest.raises(EvaluationError) as caught:
        search("abs(secret)", {"secret": "4111 1111 1111 1111"})
    assert "4111" not in caught.value.message
    assert "abs() wants number but was given string" in caught.value.message


def test_where_a_result_is_not_json_is_said() -> None:
    with pytest.raises(EvaluationError, match="/total/0"):
        search("{total: [to_number('inf')]}", {})


@pytest.mark.parametrize(
    "expression",
    [
        "|".join(["[@,@][]"] * 40),
        "|".join(["[@,@]"] * 60),
        "|".join(["[@,@]"] * 60) + "|to_string(@)",
        "|".join(["[@,@]"] * 60) + "|{a: @, b: [@[0], @[1]]}|a == b",
        "|".join(["join('', [@,@])"] * 40),
        "{sep: " + "|".join(["join('', [@,@])"] * 16) + ", many: " + "|".join(["[@,@][]"] * 16) + "} | join(sep, many)",
        "|".join(["[@,@][]"] * 17) + "| {l: map(&'x', @), r: map(&'x', @)} | [l,l,l,l,l,l][]",
    ],
)
def test_an_expression_that_grows_without_bound_is_stopped(expression: str) -> None:
    compiled = compile_expression(expression)
    with pytest.raises(EvaluationError):
        compiled.search("x")


def test_a_large_honest_document_is_within_the_budget() -> None:
    document = {"rows": [{"id": n, "name": f"name {n}", "tags": ["a", "b"]} for n in range(10_000)]}
    found = search("rows[?id >= `5000`].{id: id, name: name, first: tags[0]}", document)
    assert isinstance(found, list)
    assert len(found) == 5000


def test_a_result_shares_nothing_with_document_or_literals() -> None:
    document = {"list": [1]}
    compiled = compile_expression("{own: list, literal: `[1]`}")
    first = compiled.search(document)
    assert isinstance(first, dict)
    for part in first.values():
        assert isinstance(part, list)
        part.append(2)
    assert document == {"list": [1]}
    assert compiled.search(document) == {"own": [1], "literal": [1]}


def test_the_same_text_is_compiled_once() -> None:
    assert compile_expression("data.id") is compile_expression("data.id")


def test_the_old_literal_syntax_still_means_text() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert search("type == `order.created`", ORDER) is True


def test_threads_share_one_expression() -> None:
    compiled = compile_expression("rows[?n > `50`] | length(@)")
    document = {"rows": [{"n": n} for n in range(100)]}
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(compiled.search, [document] * 200)) == {49}


@given(st.text(alphabet=st.sampled_from("ab.[]*?&|!@(){}:,'\"`\\ 01-=<>"), max_size=30))
def test_any_text_is_either_read_or_refused_by_name(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = compile_expression(text)
        except ExpressionError:
            return
    try:
        json.dumps(compiled.search({"a": [{"b": 1}], "b": "x"}), allow_nan=False)
    except EvaluationError:
        return


@given(JSON_VALUES)
def test_the_whole_document_comes_back_equal(document: object) -> None:
    assert search("@", document) == document
