from crossdock.connectors.webhooks import Headers


def test_names_match_in_any_case_and_values_keep_their_order() -> None:
    headers = Headers.from_asgi([(b"X-One", b"1"), (b"x-two", b"caf\xe9"), (b"x-ONE", b"2")])
    assert headers.all("X-one") == ["1", "2"]
    assert headers.get("X-ONE") == "1"
    assert headers.get("x-two") == "café"
    assert headers.get("x-three") is None
    assert list(headers.items()) == [("x-one", "1"), ("x-two", "café"), ("x-one", "2")]


def test_replacing_leaves_the_first_headers_alone() -> None:
    headers = Headers([("A", "1"), ("B", "2")])
    assert sorted(headers.replaced([("a", "3"), ("a", "4")]).items()) == [("a", "3"), ("a", "4"), ("b", "2")]
    assert headers.all("a") == ["1"]


def test_values_are_not_shown() -> None:
    assert repr(Headers([("Authorization", "Bearer secret")])) == "Headers(authorization)"
