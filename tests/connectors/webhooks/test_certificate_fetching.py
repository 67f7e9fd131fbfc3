"""Certificates from destinations that behave, and from such as do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from crossdock.connectors.webhooks import certificate_fetching
from crossdock.connectors.webhooks.certificate_fetching import (
    MAX_CERTIFICATE_BYTES,
    FetchedCertificates,
    system_authorities,
)
from crossdock.connectors.webhooks.certificates import Authorities
from crossdock.connectors.webhooks.errors import CertificateUnavailableError, WrongCertificateError
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import FixedClock
from tests.connectors.webhooks.certificates import Issuer, pem
from tests.gateway.destinations import Destination, Visit, destination
from tests.waiting import eventually

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
DAY_S = 24 * 3600
ROOT = Issuer.root(NOW)
HOST = "messageverificationcerts.paypal.com"
LEAF = ROOT.leaf(HOST, NOW)


@asynccontextmanager
async def fetching(
    *, clock: FixedClock | None = None, allow_loopback: bool = True, total_timeout_s: float = 5
) -> AsyncIterator[FetchedCertificates]:
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=allow_loopback))
    try:
        yield FetchedCertificates(
            transport=transport,
            clock=clock or FixedClock(NOW),
            authorities=lambda: Authorities.of([ROOT.certificate]),
            total_timeout_s=total_timeout_s,
        )
    finally:
        await transport.aclose()


def answering(body: bytes, *, status: str = "200 OK", headers: str = "") -> Callable[[Visit], Awaitable[None]]:
    async def answer(visit: Visit) -> None:
        while await visit.request():
            await visit.answer(body, status=status, headers=headers)

    return answer


class Kept:
    """A destination's files by path, which may change; counts the requests for each."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[str] = []
        self.status = "200 OK"

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            name = request.split(b" ")[1].decode().strip("/")
            self.asked.append(name)
            await visit.answer(self.files.get(name, b""), status=self.status if name in self.files else "404 Not Found")


async def test_a_certificate_is_fetched_once_and_kept_for_a_day() -> None:
    clock, kept = FixedClock(NOW), Kept(a=pem(LEAF))
    async with destination(kept) as there, fetching(clock=clock) as source:
        for _ in range(3):
            found = await source.certificate(f"{there.url}/a", with_issuers=True)
            assert found.leaf == LEAF
            found.check_chain(NOW, HOST)
        clock.advance(DAY_S - 1)
        await source.certificate(f"{there.url}/a", with_issuers=True)
        assert kept.asked == ["a"]
        clock.advance(2)
        await source.certificate(f"{there.url}/a", with_issuers=True)
        assert kept.asked == ["a", "a"]


async def test_fifty_who_ask_at_once_cause_one_fetch() -> None:
    ready, asked = asyncio.Event(), []

    async def slow(visit: Visit) -> None:
        asked.append(await visit.request())
        await ready.wait()
        await visit.answer(pem(LEAF))

    async with destination(slow) as there, fetching() as source:
        waiting = [asyncio.create_task(source.certificate(f"{there.url}/a", with_issuers=False)) for _ in range(50)]
        await eventually(lambda: len(asked) == 1)
        # Whoever asked first goes away: the others get it all the same.
        waiting[0].cancel()
        ready.set()
        found = await asyncio.gather(*waiting[1:])
        assert {one.leaf for one in found} == {LEAF}
        assert len(asked) == 1


async def test_the_known_one_serves_for_a_week_while_it_cannot_be_fetched_again() -> None:
    clock, kept = FixedClock(NOW), Kept(a=pem(LEAF))
    async with destination(kept) as there, fetching(clock=clock) as source:
        url = f"{there.url}/a"
        await source.certificate(url, with_issuers=False)
        kept.status = "503 Service Unavailable"
        clock.advance(2 * DAY_S)
        assert (await source.certificate(url, with_issuers=False)).leaf == LEAF
        clock.advance(5 * DAY_S)
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(url, with_issuers=False)


async def test_one_that_its_sender_took_away_serves_no_longer_than_a_day() -> None:
    clock, kept = FixedClock(NOW), Kept(a=pem(LEAF))
    async with destination(kept) as there, fetching(clock=clock) as source:
        await source.certificate(f"{there.url}/a", with_issuers=False)
        kept.files.clear()
        clock.advance(DAY_S + 1)
        with pytest.raises(WrongCertificateError, match="404"):
            await source.certificate(f"{there.url}/a", with_issuers=False)


async def test_a_failure_is_remembered_for_a_moment() -> None:
    clock, kept = FixedClock(NOW), Kept(a=pem(LEAF))
    kept.status = "500 Internal Server Error"
    async with destination(kept) as there, fetching(clock=clock) as source:
        for _ in range(3):
            with pytest.raises(CertificateUnavailableError, match="500") as caught:
                await source.certificate(f"{there.url}/a", with_issuers=False)
        assert (caught.value.status, caught.value.retry_after_s) == (503, 10)
        assert kept.asked == ["a"]
        kept.status = "200 OK"
        clock.advance(11)
        assert (await source.certificate(f"{there.url}/a", with_issuers=False)).leaf == LEAF


@pytest.mark.parametrize("status", ["500 Oh", "502 Oh", "503 Oh", "429 Oh", "408 Oh", "425 Oh"])
async def test_what_may_be_better_later_is_unavailable(status: str) -> None:
    async with destination(answering(pem(LEAF), status=status)) as there, fetching() as source:
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(there.url, with_issuers=False)


@pytest.mark.parametrize("status", ["204 Oh", "400 Oh", "403 Oh", "404 Oh", "410 Oh"])
async def test_what_will_be_no_better_later_is_wrong(status: str) -> None:
    async with destination(answering(b"", status=status)) as there, fetching() as source:
        with pytest.raises(WrongCertificateError, match=status[:3]):
            await source.certificate(there.url, with_issuers=False)


async def test_a_redirect_is_not_followed() -> None:
    kept = Kept(a=pem(LEAF))
    async with destination(kept) as target:
        moved = answering(b"", status="302 Found", headers=f"Location: {target.url}/a\r\n")
        async with destination(moved) as there, fetching() as source:
            with pytest.raises(WrongCertificateError, match="302"):
                await source.certificate(there.url, with_issuers=False)
        assert kept.asked == []


async def test_more_than_a_certificate_could_be_is_not_read() -> None:
    large = pem(LEAF) + b"#" * MAX_CERTIFICATE_BYTES
    async with destination(answering(large)) as there, fetching() as source:
        with pytest.raises(WrongCertificateError, match="65536 bytes"):
            await source.certificate(there.url, with_issuers=False)


async def test_an_endless_answer_is_cut_off() -> None:
    async def flood(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.flood(b"-----BEGIN CERTIFICATE-----\n" * 100)

    async with destination(flood) as there, fetching() as source:
        with pytest.raises(WrongCertificateError):
            await source.certificate(there.url, with_issuers=False)
        await _left(there)


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def drip(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        await visit.drip(b"#")

    async with destination(drip) as there, fetching(total_timeout_s=0.2) as source:
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(there.url, with_issuers=False)
        await _left(there)


async def _left(there: Destination) -> None:
    await eventually(lambda: there.left == there.visits)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n",
        b"\x30\x00",
        pem(*[LEAF] * 11),
    ],
)
async def test_what_is_no_certificate_is_wrong(body: bytes) -> None:
    async with destination(answering(body)) as there, fetching() as source:
        with pytest.raises(WrongCertificateError):
            await source.certificate(there.url, with_issuers=False)


async def test_nobody_there_is_unavailable(unused_tcp_port: int) -> None:
    async with fetching() as source:
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(f"http://127.0.0.1:{unused_tcp_port}/a", with_issuers=False)


async def test_an_inner_address_is_not_reached() -> None:
    kept = Kept(a=pem(LEAF))
    async with destination(kept) as there, fetching(allow_loopback=False) as source:
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(f"{there.url}/a", with_issuers=False)
        assert there.visits == 0


async def test_made_up_urls_do_not_pile_up() -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(silent) as there, fetching() as source:
        tasks = [asyncio.create_task(source.certificate(f"{there.url}/{n}", with_issuers=False)) for n in range(16)]
        await eventually(lambda: there.visits == 16)
        with pytest.raises(CertificateUnavailableError, match="Too many"):
            await source.certificate(f"{there.url}/one-more", with_issuers=False)
        for task in (*source._fetching.values(), *tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_those_not_asked_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_fetching, "_MOST_KNOWN", 2)
    kept = Kept(a=pem(LEAF), b=pem(LEAF), c=pem(LEAF))
    async with destination(kept) as there, fetching() as source:
        for name in "abacab":
            await source.certificate(f"{there.url}/{name}", with_issuers=False)
        for name in "xyz":
            with pytest.raises(WrongCertificateError):
                await source.certificate(f"{there.url}/{name}", with_issuers=False)
        assert kept.asked == [*"abcb", *"xyz"]
        assert (len(source._known), len(source._failed)) == (2, 2)


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
async def test_issuers_that_did_not_come_along_are_fetched_from_where_the_certificate_says(encoding: Encoding) -> None:
    outer = ROOT.intermediate(NOW, name="Outer")
    kept = Kept()
    async with destination(kept) as there, fetching() as source:
        inner = outer.intermediate(NOW, name="Inner", key=7, issuer_at=f"{there.url}/outer")
        leaf = inner.leaf(HOST, NOW, issuer_at=f"{there.url}/inner")
        kept.files = {
            "leaf": pem(leaf),
            "inner": inner.certificate.public_bytes(encoding),
            "outer": outer.certificate.public_bytes(encoding),
        }
        found = await source.certificate(f"{there.url}/leaf", with_issuers=True)
        found.check_chain(NOW, HOST)
        assert kept.asked == ["leaf", "inner", "outer"]


async def test_issuers_that_came_along_or_do_not_matter_are_not_fetched() -> None:
    between = ROOT.intermediate(NOW)
    kept = Kept()
    async with destination(kept) as there, fetching() as source:
        leaf = between.leaf(HOST, NOW, issuer_at=f"{there.url}/between")
        kept.files = {"whole": pem(leaf, between.certificate), "alone": pem(leaf)}
        found = await source.certificate(f"{there.url}/whole", with_issuers=True)
        found.check_chain(NOW, HOST)
        await source.certificate(f"{there.url}/alone", with_issuers=False)
        assert kept.asked == ["whole", "alone"]


async def test_an_issuer_that_cannot_be_fetched_now_makes_the_certificate_unavailable(unused_tcp_port: int) -> None:
    leaf = ROOT.intermediate(NOW).leaf(HOST, NOW, issuer_at=f"http://127.0.0.1:{unused_tcp_port}/between")
    async with destination(answering(pem(leaf))) as there, fetching() as source:
        with pytest.raises(CertificateUnavailableError):
            await source.certificate(there.url, with_issuers=True)


async def test_issuers_without_end_are_not_followed() -> None:
    kept = Kept()
    async with destination(kept) as there, fetching() as source:
        ring = [Issuer.root(NOW, name=f"Ring {n}", key=8) for n in range(6)]
        for n in range(5):
            made = ring[n + 1].intermediate(NOW, name=f"Ring {n}", key=8, issuer_at=f"{there.url}/{n + 1}")
            kept.files[f"{n}"] = pem(made.certificate)
        found = await source.certificate(f"{there.url}/0", with_issuers=True)
        assert kept.asked == ["0", "1", "2", "3"]
        with pytest.raises(WrongCertificateError):
            found.check_chain(NOW, HOST)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_the_systems_authorities_are_those_that_https_trusts() -> None:
    found = system_authorities()
    if not found.roots:
        pytest.skip("this machine trusts no authorities")
    assert found.store is not None
    assert all(found.have(root.subject) for root in found.roots)
