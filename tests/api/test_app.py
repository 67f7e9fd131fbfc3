import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from structlog.contextvars import get_contextvars

from crossdock.api.app import create_app, make_api
from crossdock.http.pagination import Paging
from crossdock.http.provided import Provided
from crossdock.kit.errors import Fault, InvalidInputError, UnavailableError
from tests.serving import ApiClient, client_of


class Crate(BaseModel):
    """A thing to send."""

    name: Annotated[str, Field(max_length=3)]
    tags: list[int] = []


class Foreman:
    """A service."""

    name = "Ada"


router = APIRouter()


@router.get("/foreman")
async def foreman(found: Annotated[Foreman, Provided(Foreman)]) -> str:
    return found.name


@router.post("/crates")
async def store_crate(crate: Crate, shelf: Annotated[int, Query()] = 0) -> Crate:
    return crate if shelf >= 0 else Crate(name="")


@router.get("/pages")
async def pages(page: Paging) -> list[str]:
    return list(page.after or ())


@router.get("/quietly", include_in_schema=False)
async def quietly() -> str:
    return "whatever you say"


@router.get("/broken")
async def broken() -> None:
    raise RuntimeError("the password is hunter2")


@router.get("/down")
async def down() -> None:
    raise UnavailableError(retry_after_s=7)


@router.get("/faults")
async def faults() -> None:
    raise InvalidInputError("The rule is wrong.", (Fault("/rules/0", "unknown word"),))


async def hot(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse(
        {"bytes": len(body), "bound": get_contextvars(), "client": request.client and request.client[0]}
    )


async def hot_broken(_request: Request) -> PlainTextResponse:
    raise UnavailableError


@pytest.fixture
async def client() -> AsyncIterator[ApiClient]:
    app = create_app(
        {Foreman: Foreman()},
        api=make_api(
            [router], hot_paths={"/hot": {"post": {"summary": "Hot", "responses": {"200": {"description": "Done"}}}}}
        ),
        hot_routes=[Route("/hot", hot, methods=["POST"]), Route("/hot-broken", hot_broken, methods=["POST"])],
        body_limits={"/hot": 100, "/crates": 200},
        trusted_proxies=["127.0.0.1"],
    )
    async with client_of(app) as made:
        yield made


async def test_an_endpoint_gets_the_service_it_names(client: ApiClient) -> None:
    assert (await client.get("/foreman")).json == "Ada"


async def test_an_unknown_path_is_a_404_problem(client: ApiClient) -> None:
    answer = await client.get("/nowhere")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "not_found"
    assert answer.json["instance"] == "/nowhere"
    assert answer.json["correlation_id"] == answer.headers["X-Correlation-Id"]


@pytest.mark.parametrize(("method", "path", "allow"), [("DELETE", "/crates", "POST"), ("GET", "/hot", "POST")])
async def test_another_method_is_a_405_problem_that_names_the_right_one(
    client: ApiClient, method: str, path: str, allow: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status == 405
    assert answer.json["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == allow


async def test_faults_of_the_input_come_with_json_pointers_and_without_the_input(client: ApiClient) -> None:
    answer = await client.post("/crates?shelf=hunter2", json={"name": "hunter2", "tags": [1, "hunter2"]})
    assert answer.status == 422
    assert answer.json["code"] == "invalid_input"
    places = {(fault["in"], fault.get("pointer"), fault.get("name")) for fault in answer.json["errors"]}
    assert places == {("body", "/name", None), ("body", "/tags/1", None), ("query", None, "shelf")}
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/pages?limt=3&cursor=x", "no query parameter 'limt'; it has cursor, limit."),
        ("GET", "/foreman?x", "no query parameter 'x'; it has none."),
        ("GET", f"/foreman?{'x' * 300}=1", f"no query parameter '{'x' * 80}'; it has none."),
        ("POST", "/crates?Shelf=1", "no query parameter 'Shelf'; it has shelf."),
    ],
)
async def test_a_query_parameter_that_there_is_not_is_refused_and_the_others_are_named(
    client: ApiClient, method: str, path: str, said: str
) -> None:
    answer = await client.request(method, path, json={"name": "a"} if method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (400, "unknown_parameter")
    assert answer.json["detail"].endswith(said)
    assert (answer.json["errors"][0]["in"], answer.json["errors"][0]["name"]) == ("query", said.split("'")[1])


async def test_what_is_no_part_of_the_description_takes_any_parameter(client: ApiClient) -> None:
    assert (await client.get("/quietly?x=1")).status == 200
    assert (await client.post("/hot?x=1", body=b"")).status == 200


async def test_a_body_that_is_not_json_says_so(client: ApiClient) -> None:
    answer = await client.post("/crates", body=b"{", headers={"Content-Type": "application/json"})
    assert answer.status == 422
    assert "not JSON" in answer.json["errors"][0]["detail"]
    answer = await client.post("/crates", body=b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert "Content-Type: application/json" in answer.json["errors"][0]["detail"]  # what curl sends unless told


async def test_an_error_of_ours_keeps_its_status_code_and_faults(client: ApiClient) -> None:
    answer = await client.get("/faults")
    assert (answer.status, answer.json["detail"]) == (422, "The rule is wrong.")
    assert answer.json["errors"] == [{"in": "body", "pointer": "/rules/0", "detail": "unknown word"}]


async def test_an_unexpected_error_tells_no_details(client: ApiClient) -> None:
    answer = await client.get("/broken")
    assert answer.status == 500
    assert answer.json["code"] == "internal_error"
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize(("method", "path"), [("GET", "/down"), ("POST", "/hot-broken")])
async def test_unavailable_comes_with_retry_after(client: ApiClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_the_callers_correlation_id_is_taken_bound_and_answered(client: ApiClient) -> None:
    answer = await client.post("/hot", headers={"X-Correlation-Id": "order-7:retry.1"})
    assert answer.headers["X-Correlation-Id"] == "order-7:retry.1"
    assert answer.json["bound"] == {"correlation_id": "order-7:retry.1"}


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "<script>"])
async def test_an_unfit_correlation_id_is_replaced(client: ApiClient, sent: str) -> None:
    answer = await client.post("/hot", headers={"X-Correlation-Id": sent})
    assert len(answer.headers["X-Correlation-Id"]) == 32


async def test_a_declared_body_over_the_limit_is_refused_before_any_of_it_is_read(client: ApiClient) -> None:
    status, sent = await _raw_post(client, "/hot", ["Content-Length: 101"], body=[])
    assert (status, sent) == (413, 0)


@pytest.mark.parametrize(("path", "limit"), [("/hot", 100), ("/crates", 200)])
async def test_a_chunked_body_over_the_limit_is_refused_before_its_end(
    client: ApiClient, path: str, limit: int
) -> None:
    chunk = b"x" * 50
    status, sent = await _raw_post(
        client,
        path,
        ["Transfer-Encoding: chunked", "Content-Type: application/json"],
        body=[b"%x\r\n%s\r\n" % (len(chunk), chunk)] * (limit // 50 + 1),
    )
    assert status == 413
    assert sent == limit // 50 + 1


async def test_a_body_at_the_limit_passes(client: ApiClient) -> None:
    assert (await client.post("/hot", body=b"x" * 100)).json["bytes"] == 100


async def test_the_source_address_is_seen_through_a_trusted_proxy(client: ApiClient) -> None:
    answer = await client.post("/hot", headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7"})
    assert answer.json["client"] == "198.51.100.7"


async def test_a_cursor_that_we_never_gave_is_refused(client: ApiClient) -> None:
    for cursor in ("x", "eyJhIjoxfQ", "W10", "%FF", "WzFd"):
        assert (await client.get(f"/pages?cursor={cursor}")).status == 422


async def test_the_description_is_openapi_3_1_with_problems_and_hot_routes(client: ApiClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    assert "/hot" in document["paths"]
    for item in document["paths"].values():
        for operation in item.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert "HTTPValidationError" not in json.dumps(document)


async def _raw_post(client: ApiClient, path: str, headers: list[str], body: list[bytes]) -> tuple[int, int]:
    """The status answered to a request whose body never ends, and how many parts of it were sent."""
    host, _, port = client.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([f"POST {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode())
    for part in body:
        writer.write(part)
    await writer.drain()
    line = await reader.readline()
    await reader.read()  # the server closes: it does not wait for the rest
    writer.close()
    return int(line.split()[1]), len(body)
