"""Responses as they come over the wire, read by llhttp (the parser of Node.js) through httptools."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from crossdock.gateway._failures import MALFORMED, TOO_MANY_BYTES, UPGRADED, Failure

_MAX_FIELDS = 128
_MAX_FIELD_BYTES = 16 * 1024
# A folded header is put together line by line, in time that grows with the square of its length; it is seen
# only when it is whole. So heads are bounded too, and looked at every few KB.
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_PIECE_BYTES = 4 * 1024
# Each costs calls, however few its bytes: 500 KB of the smallest would hold up all others for 100 ms.
_MAX_INTERIM = 32
_MAX_BODY_PIECES = 4096
_FIRST_INTERIM = 100
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL = 200


class EnoughError(Exception):
    """Ends the parser's work on what it was fed."""


class ResponseReader:
    """Reads the responses of one connection, one after the other, each from `begin` until it is `whole`.

    `status` is None until the head of the final response is there. `keep_alive` says whether another
    response may follow on this connection.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # What old servers do and no reader takes in two ways: LF for CRLF, "5 " for a chunk's size.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
        self.begin(cap=0, without_body=False)

    def begin(self, *, cap: int, without_body: bool) -> None:
        """A response is to come, of whose body `cap` bytes are kept; `without_body` when HEAD was asked."""
        self._cap = cap
        self._without_body = without_body
        self._failure: Failure | None = None
        self._lines: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = self._head_bytes = self._interim = 0
        self.status: int | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self.truncated = self.whole = self.keep_alive = False

    def feed(self, data: bytes) -> Failure | None:
        """Bytes from the peer; what is wrong with them, if anything."""
        try:
            while self.status is None and len(data) > _HEAD_PIECE_BYTES:
                piece, data = data[:_HEAD_PIECE_BYTES], data[_HEAD_PIECE_BYTES:]
                self._parser.feed_data(piece)
                self._head_bytes += len(piece)
                if self._head_bytes > _MAX_HEAD_BYTES:
                    return TOO_MANY_BYTES
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.whole:
                self.keep_alive = False  # more came than was asked for, or all that is wanted has come
                return None
            if error.__context__ is not None and not isinstance(error.__context__, EnoughError):
                raise
            return self._failure or MALFORMED
        self._head_bytes += len(data)
        return TOO_MANY_BYTES if self.status is None and self._head_bytes > _MAX_HEAD_BYTES else None

    def end(self) -> bool:
        """The connection has ended; whether that is how this response ends too."""
        if self.whole or self.status is None or not _ends_with_connection(self._fields):
            return False
        self.whole = True
        return True

    def take(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Header lines and body up to the cap of a whole response; an idle connection keeps nothing of them."""
        fields, body = self._fields, b"".join(self._body)
        self._fields, self._lines, self._body = [], [], []
        return fields, body[: self._cap]

    def close(self) -> None:
        """Nothing more comes. Reader and parser hold each other; here they let go."""
        vars(self).pop("_parser", None)  # a connection may be given up twice

    def on_message_begin(self) -> None:
        """A response begins: the first, one after an interim one, or one that nobody asked for."""
        if self.whole:
            raise EnoughError
        self._lines = []
        self._head_bytes = 0
        self._parser.set_dangerous_leniencies(lenient_headers=True)  # folded headers, which old servers send

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer."""
        if len(name) + len(value) > _MAX_FIELD_BYTES or b"\0" in value or len(self._lines) >= _MAX_FIELDS:
            raise EnoughError
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of a response is there; interim ones (RFC 9110, section 15.2) are passed over."""
        self._parser.set_dangerous_leniencies(lenient_headers=False)  # not in trailers: nothing bounds those
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            self.status, self._failure = status, UPGRADED
            raise EnoughError
        if status < _FIRST_INTERIM:
            raise EnoughError
        if status < _FIRST_FINAL:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                self._failure = TOO_MANY_BYTES
                raise EnoughError
            return
        self.status, self._fields, self._lines = status, self._lines, []
        if self._without_body:
            self.whole = True
            raise EnoughError

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.status is None:
            raise EnoughError  # an interim response has none
        self._size += len(data)
        self._body.append(data)
        if self._size > self._cap or len(self._body) > _MAX_BODY_PIECES:
            self.truncated = self.whole = True
            raise EnoughError

    def on_message_complete(self) -> None:
        """A response is whole."""
        if self.status is not None:
            self.whole = True
            self.keep_alive = self._parser.should_keep_alive()


def _ends_with_connection(fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body has neither length nor chunks (RFC 9112, section 6.3, rules 4 and 8)."""
    codings = b""
    for name, value in fields:
        lowered = name.lower()
        if lowered == b"content-length":
            return False
        if lowered == b"transfer-encoding":
            codings = value
    return codings.rpartition(b",")[2].strip().lower() != b"chunked"
