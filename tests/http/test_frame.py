from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from crossdock.http.body_limit import BodyLimits
from crossdock.http.frame import Frame
from crossdock.http.hot_routes import hot_route, whole_body
from crossdock.http.source_address import TrustedProxies


async def _echo(request: Request) -> Response:
    return Response(await whole_body(request))


async def answers_to(*messages: Message) -> list[Message]:
    """What the frame sends for a POST that comes in these pieces."""
    coming, sent = iter(messages), []

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked")]
    scope: Scope = {"type": "http", "method": "POST", "path": "/echo", "headers": headers, "query_string": b""}
    app = Frame(hot_route("/echo", _echo), proxies=TrustedProxies(), limits=BodyLimits(default=8))
    scope.update({"path_params": {}, "root_path": ""})
    await app(scope, receive, send)
    return sent


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_whole_again() -> None:
    head, body = await answers_to(piece(b"ab", more=True), piece(b"", more=True), piece(b"cd"))
    assert (head["status"], body["body"]) == (200, b"abcd")


async def test_every_answer_has_a_correlation_id() -> None:
    head, _ = await answers_to(piece(b""))
    assert b"x-correlation-id" in dict(head["headers"])


async def test_a_body_without_a_length_is_counted() -> None:
    head, _ = await answers_to(piece(b"12345", more=True), piece(b"6789"))
    assert head["status"] == 413


async def test_a_caller_who_goes_away_is_not_answered() -> None:
    assert await answers_to(piece(b"ab", more=True), {"type": "http.disconnect"}) == []
