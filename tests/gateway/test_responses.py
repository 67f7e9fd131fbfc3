"""The reader of responses, fed by hand: the network may cut a response anywhere."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway._failures import MALFORMED, TOO_MANY_BYTES, UPGRADED, Failure
from crossdock.gateway._responses import ResponseReader

CAP = 1000
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@dataclass
class Read:
    """What a reader made of what it was fed."""

    status: int | None
    fields: list[tuple[bytes, bytes]]
    body: bytes
    truncated: bool
    keep_alive: bool
    whole: bool
    failure: Failure | None


def read(*pieces: bytes, ended: bool = False, cap: int = CAP, without_body: bool = False) -> Read:
    """Reads one response, given in pieces; then perhaps the connection ends."""
    reader = ResponseReader()
    reader.begin(cap=cap, without_body=without_body)
    failure = None
    for piece in pieces:
        if failure is None:
            failure = reader.feed(piece)
    if ended and failure is None:
        reader.end()
    fields, body = reader.take()
    found = Read(reader.status, fields, body, reader.truncated, reader.keep_alive, reader.whole, failure)
    reader.close()
    return found


def each_byte(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


# By what is odd about them: what came, and the status, body and "another may follow" to be made of it.
WHOLE = {
    "nothing": (OK + EMPTY, (200, b"", True)),
    "length": (OK + b"Content-Length: 2\r\n\r\nab", (200, b"ab", True)),
    "length with space after it": (OK + b"Content-Length: 2 \r\n\r\nab", (200, b"ab", True)),
    "chunks": (CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", (200, b"abc", True)),
    "chunk extensions": (CHUNKED + b'1;a="b;c";d\r\na\r\n0;e\r\n\r\n', (200, b"a", True)),
    "space after a chunk's size": (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", (200, b"a", True)),
    "zeros before a chunk's size": (CHUNKED + b"0001\r\na\r\n000\r\n\r\n", (200, b"a", True)),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nX-A: a\r\nX-B: b\r\n\r\n", (200, b"a", True)),
    "codings that end in chunks": (
        OK + b"Transfer-Encoding: gzip, Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (200, b"a", True),
    ),
    "no reason": (b"HTTP/1.1 200\r\n" + EMPTY, (200, b"", True)),
    "empty reason": (b"HTTP/1.1 200 \r\n" + EMPTY, (200, b"", True)),
    "odd reason": (b"HTTP/1.1 200 \xe9 it's: fine\r\n" + EMPTY, (200, b"", True)),
    "odd status": (b"HTTP/1.1 999 OK\r\n" + EMPTY, (999, b"", True)),
    "lines that end in LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", (200, b"ab", True)),
    "empty lines before": (b"\r\n\r\n" + OK + EMPTY, (200, b"", True)),
    "empty line after": (OK + EMPTY + b"\r\n", (200, b"", True)),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + EMPTY, (200, b"", False)),
    "HTTP/1.0 with keep-alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + EMPTY, (200, b"", True)),
    "close": (OK + b"Connection: close\r\n" + EMPTY, (200, b"", False)),
    "close in a list": (OK + b"connection: Keep-Alive, Close\r\n" + EMPTY, (200, b"", False)),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", (204, b"", True)),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", (304, b"", True)),
    "an upgrade offered": (
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab",
        (200, b"ab", True),
    ),
    "interim responses": (CONTINUE + HINTS + HINTS + OK + EMPTY, (200, b"", True)),
    "an interim response of no known status": (b"HTTP/1.1 199 Soon\r\n\r\n" + OK + EMPTY, (200, b"", True)),
    "an interim response with a length": (
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n" + OK + EMPTY,
        (200, b"", True),
    ),
    "another response behind it": (OK + b"Content-Length: 1\r\n\r\na" + OK + EMPTY, (200, b"a", False)),
    "half a response behind it": (OK + b"Content-Length: 1\r\n\r\naHT", (200, b"a", False)),
    "garbage behind it": (OK + b"Content-Length: 1\r\n\r\na\0\0", (200, b"a", False)),
    "an interim response behind it": (OK + b"Content-Length: 1\r\n\r\na" + CONTINUE, (200, b"a", False)),
    "bytes behind a last one": (OK + b"Connection: close\r\n" + EMPTY + b"more", (200, b"", False)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_response_is_read_the_same_in_one_piece_and_byte_by_byte(name: str) -> None:
    text, (status, body, keep_alive) = WHOLE[name]
    for pieces in ([text], each_byte(text)):
        found = read(*pieces)
        assert found.failure is None
        assert (found.status, found.body, found.whole, found.truncated) == (status, body, True, False)
        assert found.keep_alive is keep_alive


REFUSED = {
    "another protocol": b"220 mail.example ESMTP ready\r\n",
    "lower case": b"http/1.1 200 OK\r\n",
    "unknown version": b"HTTP/1.2 200 OK\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\n" + EMPTY,
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a list of lengths": OK + b"Content-Length: 1, 1\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "signed length": OK + b"Content-Length: +1\r\n\r\n",
    "no length in its header": OK + b"Content-Length:\r\n\r\n",
    "length beyond 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "chunk beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\n",
    "negative chunk": CHUNKED + b"-1\r\n",
    "chunk longer than said": CHUNKED + b"1\r\nab\r\n",
    "chunk without size": CHUNKED + b"\r\n",
    "NUL in a header": OK + b"X-A: a\0b\r\n" + EMPTY,
    "NUL in a trailer": CHUNKED + b"0\r\nX-A: a\0b\r\n\r\n",
    "length in a trailer": CHUNKED + b"0\r\nContent-Length: 1\r\n\r\n",
    "folded trailer": CHUNKED + b"0\r\nX-A: a\r\n b\r\n\r\n",
    "CR in a header": OK + b"X-A: a\rX-B: b\r\n" + EMPTY,
    "space in a header's name": OK + b"X A: a\r\n",
    "space after a header's name": OK + b"X-A : a\r\n",
    "no name": OK + b": a\r\n",
    "no colon": OK + b"X-A\r\n",
    "name that is no token": OK + b"X-\xff: a\r\n",
    "header too long": OK + b"X-A: " + b"a" * 16_400 + b"\r\n" + EMPTY,
    "header's name too long": OK + b"X" * 16_400 + b": a\r\n" + EMPTY,
    "too many headers": OK + b"X-A: a\r\n" * 129 + b"\r\n",
    "too many trailers": CHUNKED + b"0\r\n" + b"X-A: a\r\n" * 130 + b"\r\n",
    "content in an interim response": b"HTTP/1.1 104 So\r\nContent-Length: 1\r\n\r\na" + OK + EMPTY,
    "more after a last interim response": b"HTTP/1.0 100 Continue\r\n\r\n" + OK + EMPTY,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_two_readers_would_read_alike_is_refused(name: str) -> None:
    for pieces in ([REFUSED[name]], each_byte(REFUSED[name])):
        found = read(*pieces)
        assert found.failure is MALFORMED
        assert not found.whole


@pytest.mark.parametrize("lines", [b"", b"Upgrade: chat\r\nConnection: upgrade\r\n"])
def test_a_change_of_protocol_is_told_as_that(lines: bytes) -> None:
    text = b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\nother words"
    for pieces in ([text], each_byte(text)):
        assert read(*pieces).failure is UPGRADED


# What came before the connection ended; None where that is no response, else the body.
ENDED = {
    b"": None,
    b"HTTP/1.1 2": None,
    OK: None,
    OK + b"X-A: ": None,
    CONTINUE: None,
    OK + b"Content-Length: 2\r\n\r\na": None,
    CHUNKED: None,
    CHUNKED + b"2": None,
    CHUNKED + b"2\r\na": None,
    CHUNKED + b"2\r\nab\r\n": None,
    CHUNKED + b"2\r\nab\r\n0\r\n": None,
    CHUNKED + b"2\r\nab\r\n0\r\nX-A: a\r\n": None,
    OK + b"transfer-encoding: gzip , CHUNKED \r\n\r\n": None,
    OK + b"\r\n": b"",
    OK + b"\r\nab": b"ab",
    OK + b"Connection: close\r\n\r\nab": b"ab",
    b"HTTP/1.0 200 OK\r\n\r\nab": b"ab",
    OK + b"Transfer-Encoding: gzip\r\n\r\nab": b"ab",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\nab": b"ab",
}


@pytest.mark.parametrize("text", ENDED)
def test_the_end_of_a_connection_ends_only_a_response_without_length_and_chunks(text: bytes) -> None:
    for pieces in ([text], each_byte(text)):
        assert not read(*pieces).whole
        found = read(*pieces, ended=True)
        assert found.whole is (ENDED[text] is not None)
        assert found.body == (ENDED[text] or found.body)
        assert not found.keep_alive


def test_headers_are_kept_in_order_and_twice_and_trailers_are_left_out() -> None:
    lines = b"Set-Cookie: a\r\nset-cookie: b\r\nX-Empty:\r\nX-Folded: a\r\n  b\r\nX-Odd: \xff\x01\r\n"
    found = read(OK + lines + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Late: c\r\n\r\n")
    assert found.fields == [
        (b"Set-Cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"X-Empty", b""),
        (b"X-Folded", b"a  b"),
        (b"X-Odd", b"\xff\x01"),
        (b"Transfer-Encoding", b"chunked"),
    ]


def test_a_folded_header_is_not_put_together_for_ever() -> None:
    """Its parts are copied once for each line: 500 KB of them would take seconds."""
    reader = ResponseReader()
    reader.begin(cap=CAP, without_body=False)
    assert reader.feed(OK + b"X-A: a\r\n") is None
    fed = 0
    while (failure := reader.feed(b" a\r\n" * 100)) is None:
        fed += 400
    assert failure is TOO_MANY_BYTES
    assert fed < 70_000
    assert read(OK + b"X-A: a\r\n" + b" a\r\n" * 100_000).failure is TOO_MANY_BYTES


def test_a_head_has_room_for_many_long_headers() -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 15_000) for number in range(4))
    for pieces in ([HINTS * 30 + OK + lines + EMPTY], [HINTS * 30, OK, lines, EMPTY]):
        assert len(read(*pieces).fields) == 5


def test_headers_of_interim_responses_are_left_out() -> None:
    assert read(HINTS + OK + EMPTY).fields == [(b"Content-Length", b"0")]


def test_interim_responses_without_end_are_refused() -> None:
    for pieces in ([CONTINUE * 33], each_byte(CONTINUE * 33)):
        assert read(*pieces).failure is TOO_MANY_BYTES
    assert read(CONTINUE * 32 + OK + EMPTY).status == 200


def test_a_body_in_very_many_chunks_is_cut_and_ends_the_connection() -> None:
    found = read(CHUNKED + b"1\r\na\r\n" * 5000, cap=10_000)
    assert (found.failure, found.truncated, found.whole, found.keep_alive) == (None, True, True, False)
    assert found.body == b"a" * len(found.body)
    assert len(found.body) > CAP


def test_a_body_beyond_the_cap_is_cut_and_ends_the_connection() -> None:
    text = OK + b"Content-Length: 11\r\n\r\n" + b"a" * 11
    for pieces in ([text], each_byte(text)):
        found = read(*pieces, cap=10)
        assert (found.body, found.truncated, found.whole, found.keep_alive) == (b"a" * 10, True, True, False)
        found = read(*pieces, cap=11)
        assert (found.body, found.truncated, found.keep_alive) == (b"a" * 11, False, True)


def test_the_answer_to_head_ends_with_its_headers() -> None:
    found = read(OK + b"Content-Length: 5\r\n\r\n", without_body=True)
    assert (found.status, found.body, found.whole, found.keep_alive) == (200, b"", True, False)


def test_one_response_leaves_nothing_to_the_next() -> None:
    reader = ResponseReader()
    for number in range(3):
        reader.begin(cap=CAP, without_body=False)
        assert (reader.status, reader.whole, reader.keep_alive) == (None, False, False)
        name = b"X-%d" % number
        assert reader.feed(OK + name + b": a\r\nContent-Length: 1\r\n\r\n%d" % number) is None
        assert reader.keep_alive
        assert reader.take() == ([(name, b"a"), (b"Content-Length", b"1")], b"%d" % number)
        assert reader.take() == ([], b"")
    reader.close()


def test_a_fault_of_our_own_is_not_taken_for_the_destinations(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_reader: ResponseReader, _name: bytes, _value: bytes) -> None:
        raise LookupError

    monkeypatch.setattr(ResponseReader, "on_header", broken)
    with pytest.raises(Exception, match="callback") as caught:
        read(OK + EMPTY)
    assert isinstance(caught.value.__context__, LookupError)


FRAMING = {b"connection", b"content-length", b"transfer-encoding", b"upgrade"}
TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=20).map(str.encode)
VALUES = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\0\r\n").strip(b" \t"))
FIELDS = st.lists(st.tuples(TOKENS, VALUES).filter(lambda field: field[0].lower() not in FRAMING), max_size=6)


@given(
    interim=st.lists(st.sampled_from([CONTINUE, HINTS]), max_size=2),
    status=st.integers(200, 599).filter(lambda status: status not in {204, 304}),
    fields=FIELDS,
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    framing=st.sampled_from(["length", "chunks", "end"]),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
def test_any_response_is_read_as_it_was_written_wherever_it_is_cut(
    interim: list[bytes],
    status: int,
    fields: list[tuple[bytes, bytes]],
    chunks: list[bytes],
    framing: str,
    cuts: list[float],
) -> None:
    body = b"".join(chunks)
    framed = {
        "length": (b"Content-Length: %d\r\n" % len(body), body),
        "chunks": (
            b"Transfer-Encoding: chunked\r\n",
            b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n",
        ),
        "end": (b"Connection: close\r\n", body),
    }
    line, content = framed[framing]
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    text = b"".join(interim) + b"HTTP/1.1 %d Any\r\n" % status + lines + line + b"\r\n" + content
    places = sorted({0, len(text), *(int(cut * len(text)) for cut in cuts)})
    found = read(*(text[a:b] for a, b in pairwise(places)), ended=framing == "end")
    assert found.failure is None
    assert (found.status, found.whole, found.body) == (status, True, body)
    assert [(name, value.strip(b" \t")) for name, value in found.fields[:-1]] == fields
    assert found.keep_alive is (framing != "end")
