"""Which destination URLs may be saved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.urls import MAX_URL_CHARACTERS, DestinationUrl, parse_destination_url
from crossdock.kit.errors import InvalidInputError

STRICT = AddressPolicy()
DEVELOPMENT = AddressPolicy(allow_loopback=True)


def _fault(url: str, policy: AddressPolicy = STRICT) -> str:
    with pytest.raises(InvalidInputError) as caught:
        parse_destination_url(url, policy=policy)
    assert [fault.pointer for fault in caught.value.faults] == ["/url"]
    return caught.value.faults[0].message


@pytest.mark.parametrize(
    ("given_url", "saved"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com?a=1", "https://example.com/?a=1"),
        ("HTTPS://Example.COM:443/A?b=%2F#".rstrip("#"), "https://example.com/A?b=%2F"),
        ("https://example.com:8443/hook", "https://example.com:8443/hook"),
        ("https://example.com./hook", "https://example.com/hook"),
        ("https://b\xfccher.example/\xfc?q=\xfc", "https://xn--bcher-kva.example/%C3%BC?q=%C3%BC"),
        ("https://my_host.example/100%/%zz/%41", "https://my_host.example/100%25/%25zz/%41"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://0x8.010.2056/", "https://8.8.8.8/"),
        ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"),
        ("https://[2606:4700::1111]:8443/", "https://[2606:4700::1111]:8443/"),
    ],
)
def test_a_url_is_saved_in_its_canonical_form(given_url: str, saved: str) -> None:
    assert parse_destination_url(given_url, policy=STRICT).text == saved


def test_the_parts_of_a_url_are_told() -> None:
    url = parse_destination_url("https://example.com:8443/x", policy=STRICT)
    assert url == DestinationUrl("https://example.com:8443/x", "https", "example.com", 8443, None)
    assert str(parse_destination_url("https://8.8.8.8/", policy=STRICT).address) == "8.8.8.8"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://localhost:8080/hook",
        "http://127.0.0.1:8080/",
        "http://[::1]/",
        "http://hook.localhost/",
        "https://localhost/",
    ],
)
def test_plain_http_to_this_machine_is_for_development(url: str) -> None:
    assert parse_destination_url(url, policy=DEVELOPMENT).text.startswith(url[:5])
    _fault(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://8.8.8.8/",
        "http://localhost.example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "example.com/hook",
        "//example.com/",
        "https:example.com",
        "https:/example.com",
        "",
    ],
)
def test_anything_but_https_is_refused(url: str) -> None:
    _fault(url, DEVELOPMENT)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0x",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "127\u30020\u30020\u30021",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "2852039166",
        "[fd00:ec2::254]",
        "[fe80::1%25eth0]",
        "0",
        "0.0.0.0",
        "[::]",
    ],
)
def test_an_inner_address_is_recognized_however_it_is_written(host: str) -> None:
    assert "cannot be reached" in _fault(f"https://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "256.1.1.1",
        "1.2.3.4.5",
        "4294967296",
        "1.2.3.256",
        "1.16777216",
        "08.8.8.8",
        "a.b.1",
        "1..2",
        "",
        ".",
        "a..b",
        "-a.example",
        "a-.example",
        "a" * 64 + ".example",
        ".".join(["abcdefgh"] * 30),
        "exa mple.com",
        "exa%6dple.com",
        "exam,ple.com",
        "[::1",
        "::1",
        "[1.2.3.4]",
        "[::g]",
        "\u00ad",
        "xn--\xfc",
    ],
)
def test_a_host_that_is_none_is_refused(host: str) -> None:
    _fault(f"https://{host}/", DEVELOPMENT)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/#part",
        "https://example.com/#",
        "https://example.com/a b",
        "https://example.com/a\tb",
        "https://example.com/\r\nX-A: b",
        "https://example.com\n",
        " https://example.com/",
        "https://exam\x00ple.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://example.com:+443/",
        "https://example.com:4 43/",
        "https://example.com:\u0664\u0664\u0663/",
        "https://example.com:443:443/",
    ],
)
def test_what_parsers_may_read_differently_is_refused(url: str) -> None:
    _fault(url)


@pytest.mark.parametrize("port", [22, 25, 53, 587, 6000, 10080])
def test_a_port_of_another_protocol_is_refused(port: int) -> None:
    assert str(port) in _fault(f"https://example.com:{port}/")


def test_a_url_is_bounded_in_length_also_once_escaped() -> None:
    start = "https://example.com/"
    fits = start + "a" * (MAX_URL_CHARACTERS - len(start))
    assert parse_destination_url(fits, policy=STRICT).text == fits
    assert str(MAX_URL_CHARACTERS) in _fault(fits + "a")
    assert "escaped" in _fault(start + "\xfc" * 200)


def test_localhost_names_what_to_do() -> None:
    assert _fault("https://localhost/") == "localhost cannot be reached from here; give a public host."


def test_the_fault_points_to_where_the_caller_says() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_destination_url("nothing", policy=STRICT, pointer="/auth/token_url")
    assert caught.value.faults[0].pointer == "/auth/token_url"


@given(st.text(max_size=80).map(lambda text: f"https://{text}"))
def test_any_text_is_either_canonical_or_refused(text: str) -> None:
    try:
        parsed = parse_destination_url(text, policy=STRICT)
    except InvalidInputError:
        return
    assert parsed.text.isascii()
    assert parse_destination_url(parsed.text, policy=STRICT) == parsed
