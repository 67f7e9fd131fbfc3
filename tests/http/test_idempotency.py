import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Request
from sqlalchemy import text
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from crossdock.api.app import create_app, make_api
from crossdock.db.engine import Database, OutcomeUnknownError
from crossdock.http.access import OperatorKey, Principal
from crossdock.http.idempotency import IdempotentWrites
from crossdock.http.idempotency_claims import Claims
from crossdock.kit.clock import FixedClock
from crossdock.kit.errors import ConflictError, UnauthorizedError
from crossdock.kit.ids import new_uuid
from tests.hub import query
from tests.serving import Answer, ApiClient, client_of

TENANT, OTHER_TENANT = new_uuid(), new_uuid()
CALLERS = {name: (tenant, new_uuid()) for name, tenant in {"one": TENANT, "two": TENANT, "other": OTHER_TENANT}.items()}


class Gate:
    """Knows callers by their key."""

    async def authenticate(self, *, authorization: str | None, **_: object) -> Principal:
        found = CALLERS.get((authorization or "").removeprefix("Bearer "))
        if found is None:
            raise UnauthorizedError
        return Principal(tenant_id=found[0], kind="api_key", id=found[1], name="x", permissions=frozenset())

    async def spend(self, _: Principal) -> None:
        """Nobody counts."""


class Seals:
    """Turns answers round, so that one in clear would be seen."""

    async def seal(self, tenant_id: UUID, purpose: str, answer: str) -> bytes:
        return f"{tenant_id}{purpose}{answer[::-1]}".encode()

    async def open(self, tenant_id: UUID, purpose: str, sealed: bytes) -> str:
        return sealed.decode().removeprefix(f"{tenant_id}{purpose}")[::-1]


class Shop:
    """Endpoints that write, with what a test wants to happen in between."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.served = 0
        self.before: Callable[[], Any] | None = None
        self.after: Callable[[], Any] | None = None
        self.router = APIRouter()
        self.router.post("/orders", status_code=201)(self.order)
        self.router.post("/refusals")(self.refuse)
        self.router.post("/halves")(self.half)
        self.router.post("/large")(self.large)
        self.router.get("/orders")(self.read)
        self.router.post("/apart/orders", status_code=201)(self.order)

    async def order(self, request: Request, response: Response) -> dict[str, Any]:
        await self._write("order")
        response.headers["Location"] = f"/orders/{self.served}"
        response.set_cookie("secret", "cookie")
        return {"number": self.served, "body": (await request.body()).decode(), "secret": "shown this once"}

    async def refuse(self) -> None:
        self.served += 1
        raise ConflictError("Not today.")

    async def half(self) -> None:
        await self._write("half")
        raise RuntimeError("after the commit")

    async def large(self) -> StreamingResponse:
        await self._write("large")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100_000

        return StreamingResponse(chunks())

    async def read(self) -> dict[str, int]:
        self.served += 1
        return {"number": self.served}

    async def _write(self, what: str) -> None:
        self.served += 1
        if self.before is not None:
            await self.before()
        async with self.database.tenant(TENANT) as session:
            await session.execute(
                text("INSERT INTO outbox (tenant_id, id, type, data) VALUES (:t, :i, :w, '{}')"),
                {"t": TENANT, "i": new_uuid(), "w": what},
            )
        if self.after is not None:
            await self.after()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 22, 12, tzinfo=UTC))


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


@pytest.fixture
async def client(database: Database, shop: Shop, clock: FixedClock) -> AsyncIterator[ApiClient]:
    def around(app: ASGIApp) -> ASGIApp:
        return IdempotentWrites(
            app,
            gatekeeper=Gate(),
            operator_key=OperatorKey("operator"),
            claims=Claims(database=database, clock=clock),
            seals=Seals(),
            apart=frozenset({"/apart/"}),
        )

    async with client_of(create_app({}, api=make_api([shop.router]), around=around)) as made:
        yield made.with_key("one")


async def order(client: ApiClient, key: str = "k", path: str = "/orders", **sent: Any) -> Answer:
    return await client.post(path, headers={"Idempotency-Key": key}, **(sent or {"json": {"a": 1}}))


async def rows(database: Database) -> int:
    return len(await query(database.dsn, "SELECT FROM outbox"))


async def test_the_same_again_gets_the_same_answer_and_does_nothing(client: ApiClient, database: Database) -> None:
    first, again = await order(client), await order(client)
    assert (first.status, first.headers.get("Idempotency-Replayed")) == (201, None)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (201, first.body, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert "Set-Cookie" in first.headers
    assert "Set-Cookie" not in again.headers
    assert await rows(database) == 1


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/orders", {"json": {"a": 2}}), ("/orders?x=1", {"json": {"a": 1}}), ("/refusals", {"json": {"a": 1}})],
)
async def test_the_same_key_with_another_request_is_refused(client: ApiClient, path: str, sent: dict[str, Any]) -> None:
    await order(client)
    other = await order(client, path=path, **sent)
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_another_key_or_none_is_another_request(client: ApiClient, shop: Shop) -> None:
    await order(client, "a")
    await order(client, "b")
    await client.post("/orders", json={"a": 1})
    await client.post("/orders", json={"a": 1})
    assert shop.served == 4


async def test_a_key_is_its_callers_alone(client: ApiClient, shop: Shop) -> None:
    numbers = [(await order(client.with_key(name))).json["number"] for name in ("one", "two", "other", "operator")]
    again = [(await order(client.with_key(name))).json["number"] for name in ("one", "two", "other", "operator")]
    assert numbers == again == [1, 2, 3, 4]
    assert shop.served == 4


async def test_an_answer_is_kept_for_a_day(client: ApiClient, shop: Shop, clock: FixedClock) -> None:
    await order(client)
    clock.advance(24 * 3600 - 1)
    await order(client)
    assert shop.served == 1
    clock.advance(1)
    assert (await order(client, json={"a": 2})).json["number"] == 2


async def test_what_was_refused_without_effect_leaves_the_key_free(client: ApiClient, shop: Shop) -> None:
    refused = await order(client, path="/refusals")
    assert (refused.status, refused.json["detail"]) == (409, "Not today.")
    assert (await order(client, path="/orders", json={"other": "body"})).json["number"] == 2
    assert shop.served == 2


async def test_an_error_after_the_commit_is_not_repeated(
    client: ApiClient, shop: Shop, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first, again = await order(client, path="/halves"), await order(client, path="/halves")
    assert (first.status, again.status) == (500, 500)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (shop.served, await rows(database)) == (1, 1)
    assert caplog is not None


async def test_a_write_of_unknown_outcome_is_safe_to_repeat_under_its_key(
    client: ApiClient, shop: Shop, database: Database
) -> None:
    async def lost() -> None:
        raise OutcomeUnknownError

    shop.before = lost
    assert (await order(client)).status == 503
    shop.before, shop.after = None, lost
    told = await order(client)
    assert (told.status, told.json["code"]) == (503, "unavailable")
    assert "Idempotency-Key" in told.json["detail"]
    shop.after = None
    again = await order(client)
    assert (again.status, again.json["code"]) == (409, "idempotency_answer_lost")
    assert await rows(database) == 1


async def test_of_many_at_once_one_is_served_and_the_others_are_told_to_wait(client: ApiClient, shop: Shop) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        begun.set()
        await go.wait()

    shop.before = pause
    first = asyncio.create_task(order(client))
    await begun.wait()
    others = await asyncio.gather(*(order(client) for _ in range(5)))
    go.set()
    assert {(one.status, one.json["code"], one.headers["Retry-After"]) for one in others} == {
        (409, "idempotency_busy", "1")
    }
    assert (await first).status == 201
    assert shop.served == 1


async def test_a_process_that_died_before_it_wrote_leaves_the_key_until_its_lease_is_over(
    client: ApiClient, shop: Shop, database: Database, clock: FixedClock
) -> None:
    await order(client)
    await query(database.dsn, "UPDATE idempotency_keys SET answer = '', carried_out = false")
    assert (await order(client)).json["code"] == "idempotency_busy"
    clock.advance(60)
    assert (await order(client)).json["number"] == 2
    assert shop.served == 2


async def test_one_that_died_after_it_wrote_is_never_repeated(
    client: ApiClient, shop: Shop, database: Database, clock: FixedClock
) -> None:
    await order(client)
    await query(database.dsn, "UPDATE idempotency_keys SET answer = ''")
    clock.advance(3600)
    lost = await order(client)
    assert (lost.status, lost.json["code"]) == (409, "idempotency_answer_lost")
    assert shop.served == 1


async def test_one_that_hung_until_another_took_over_writes_nothing_any_more(
    client: ApiClient, shop: Shop, database: Database, clock: FixedClock
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        if shop.served == 1:
            begun.set()
            await go.wait()

    shop.before = hang
    hung = asyncio.create_task(order(client))
    await begun.wait()
    clock.advance(60)
    assert (await order(client)).status == 201
    go.set()
    late = await hung
    assert (late.status, late.json["code"]) == (409, "idempotency_busy")
    assert await rows(database) == 1
    assert (await order(client)).json["number"] == 2


async def test_an_answer_too_large_to_keep_goes_out_and_is_not_done_again(client: ApiClient, shop: Shop) -> None:
    assert len((await order(client, path="/large")).body) == 2_000_000
    assert (await order(client, path="/large")).json["code"] == "idempotency_answer_lost"
    assert shop.served == 1


async def test_no_answer_lies_in_the_database_in_clear(client: ApiClient, database: Database) -> None:
    assert b"shown this once" in (await order(client)).body
    (row,) = await query(database.dsn, "SELECT * FROM idempotency_keys")
    assert row["answer"]
    assert b"shown this once" not in row["answer"]


async def test_reads_and_paths_apart_and_strangers_know_no_keys(
    client: ApiClient, shop: Shop, database: Database
) -> None:
    for _ in range(2):
        await client.get("/orders", headers={"Idempotency-Key": "k"})
        await order(client, path="/apart/orders")
        await order(client.with_key("stranger"))
    assert shop.served == 6
    assert await query(database.dsn, "SELECT * FROM idempotency_keys") == []


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_cannot_be_one_is_refused(client: ApiClient, shop: Shop, key: str) -> None:
    refused = await order(client, key)
    assert (refused.status, shop.served) == (422, 0)
