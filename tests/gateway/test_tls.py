"""TLS to destinations: always verified, and proving who we are where asked."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import ConnectionLostError, RequestError, SendTimeoutError, TlsError
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.tls import TlsContexts, build_context, trusted_authorities, validate_identity
from crossdock.gateway.transport import TlsIdentity
from crossdock.kit.errors import InvalidInputError
from tests.gateway.certificates import Authority, Certificate, server_context
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority(name="Another Authority")


def _identity(authority: Authority, client: Certificate | None = None) -> TlsIdentity:
    if client is None:
        return TlsIdentity(ca_pem=authority.pem)
    return TlsIdentity(client.certificate, client.key, authority.pem)


async def _name(visit: Visit) -> None:
    """Answers with the common name of the client's certificate."""
    while await visit.request():
        subject = dict(entry[0] for entry in visit.writer.get_extra_info("peercert")["subject"])
        await visit.answer(subject["commonName"].encode())


async def test_a_private_authority_is_trusted_where_it_is_named(
    transport: HttpTransport, authority: Authority, tmp_path: Path
) -> None:
    async with destination(friendly, tls=server_context(tmp_path, authority.server())) as there:
        response = await transport.send(post(there.url, tls=_identity(authority)))
    assert (response.status, response.remote_address) == (200, "127.0.0.1")


async def test_a_certificate_of_an_unknown_authority_is_refused(
    transport: HttpTransport, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    async with destination(friendly, tls=server_context(tmp_path, authority.server())) as there:
        for tls in (None, _identity(stranger)):
            with pytest.raises(TlsError) as caught:
                await transport.send(post(there.url, tls=tls))
            assert not caught.value.maybe_sent
            assert "certificate" in caught.value.message


async def test_a_certificate_for_another_host_is_refused(
    transport: HttpTransport, authority: Authority, tmp_path: Path
) -> None:
    async with destination(friendly, tls=server_context(tmp_path, authority.server("127.0.0.9"))) as there:
        with pytest.raises(TlsError) as caught:
            await transport.send(post(there.url, tls=_identity(authority)))
    assert "mismatch" in caught.value.message


async def test_what_speaks_no_tls_is_a_tls_error(transport: HttpTransport) -> None:
    async def plain(visit: Visit) -> None:
        await visit.answer()
        await visit.gone()

    async with destination(plain) as there:
        with pytest.raises(TlsError) as caught:
            await transport.send(post(there.url.replace("http:", "https:")))
        assert not caught.value.maybe_sent


async def test_each_client_certificate_has_connections_of_its_own(
    transport: HttpTransport, authority: Authority, tmp_path: Path
) -> None:
    tls = server_context(tmp_path, authority.server(), clients_of=authority)
    ada, bob = (_identity(authority, authority.client(name)) for name in ("ada", "bob"))
    async with destination(_name, tls=tls) as there:
        for identity, name in ((ada, b"ada"), (bob, b"bob"), (ada, b"ada"), (bob, b"bob")):
            assert (await transport.send(post(there.url, tls=identity))).body == name
        assert there.visits == 2


async def test_without_the_demanded_client_certificate_the_error_says_tls(
    transport: HttpTransport, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """In TLS 1.3 the refusal comes after our handshake is done, so the request may be out already."""
    tls = server_context(tmp_path, authority.server(), clients_of=authority)
    async with destination(_name, tls=tls) as there:
        for identity in (_identity(authority), _identity(authority, stranger.client("eve"))):
            with pytest.raises((TlsError, ConnectionLostError)):
                await transport.send(post(there.url, tls=identity))


async def test_an_endless_encrypted_body_ends_at_the_cap(
    transport: HttpTransport, authority: Authority, tmp_path: Path
) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.flood(b"z" * 4096)

    async with destination(behaviour, tls=server_context(tmp_path, authority.server())) as there:
        response = await transport.send(post(there.url, tls=_identity(authority), total_timeout_s=60))
        assert (len(response.body), response.truncated) == (64 * 1024, True)
        await eventually(lambda: there.left == 1)


async def test_an_encrypted_destination_that_does_not_read_is_left_at_once(
    transport: HttpTransport, authority: Authority, tmp_path: Path
) -> None:
    left_behind = asyncio.Event()
    got: list[int] = []
    body = b"x" * 40_000_000

    async def behaviour(visit: Visit) -> None:
        await left_behind.wait()
        got.append(await visit.count())

    async with destination(behaviour, tls=server_context(tmp_path, authority.server())) as there:
        with pytest.raises(SendTimeoutError):
            await transport.send(post(there.url, tls=_identity(authority), body=body, total_timeout_s=2))
        left_behind.set()
        await eventually(lambda: got)
    assert got[0] < len(body)


UNUSABLE = {
    "no PEM": ("nonsense", "nonsense", None),
    "certificate without key": ("{certificate}", None, None),
    "key without certificate": (None, "{key}", None),
    "another key": ("{certificate}", "{other_key}", None),
    "no authority": (None, None, "nonsense"),
    "empty authority": (None, None, ""),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_an_identity_that_cannot_be_used_is_refused_when_saved_and_when_sent(
    transport: HttpTransport, authority: Authority, name: str
) -> None:
    client = authority.client("ada")
    words = {"{certificate}": client.certificate, "{key}": client.key, "{other_key}": authority.client("bob").key}
    identity = TlsIdentity(*(words.get(part, part) if part is not None else None for part in UNUSABLE[name]))
    with pytest.raises(InvalidInputError) as refused:
        validate_identity(identity, pointer="/auth/tls")
    assert refused.value.faults[0].pointer == "/auth/tls"
    with pytest.raises(RequestError) as caught:
        await transport.send(post("https://127.0.0.1:1/", tls=identity))
    assert "PRIVATE" not in f"{refused.value.faults} {caught.value.message}"


async def test_a_context_is_made_once_however_many_want_it(authority: Authority) -> None:
    contexts = TlsContexts()
    identity = _identity(authority, authority.client("ada"))
    made = await asyncio.gather(*(contexts.get(identity) for _ in range(20)))
    assert len({id(context) for context in made}) == 1


async def test_a_failure_of_this_machine_is_not_kept(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contexts = TlsContexts()
    identity = _identity(authority, authority.client("ada"))
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        with pytest.raises(TlsError, match="no such file"):
            await contexts.get(identity)
    assert (await contexts.get(identity)).verify_mode is ssl.CERT_REQUIRED


def test_a_private_key_is_never_on_disk_in_clear(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(self: ssl.SSLContext, certfile: Path, **named: str) -> None:
        written.append(certfile.read_text())
        load(self, certfile, **named)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    build_context(_identity(authority, authority.client("ada")))
    assert ["BEGIN ENCRYPTED PRIVATE KEY" in text and "BEGIN PRIVATE KEY" not in text for text in written] == [True]
    assert list(tmp_path.iterdir()) == []


async def test_an_identity_never_shows_its_key(authority: Authority) -> None:
    client = authority.client("ada")
    assert client.key not in repr(_identity(authority, client))
    assert "PRIVATE KEY" not in repr(_identity(authority, client))


async def test_a_trusted_name_is_verified_against_the_name_and_not_the_address(
    authority: Authority, tmp_path: Path
) -> None:
    async def lookup(host: str) -> list[str]:
        assert host.endswith(".example")
        return ["127.0.0.1"]

    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True), lookup=lookup)
    try:
        async with destination(friendly, tls=server_context(tmp_path, authority.server())) as there:
            good = post(f"https://there.example:{there.port}/", tls=_identity(authority))
            assert (await transport.send(good)).status == 200
            with pytest.raises(TlsError):
                await transport.send(post(f"https://other.example:{there.port}/", tls=_identity(authority)))
    finally:
        await transport.aclose()


def test_another_handshake_is_refused_but_where_it_may_ask_for_a_client_certificate(authority: Authority) -> None:
    plain, proving = build_context(_identity(authority)), build_context(_identity(authority, authority.client("us")))
    assert plain.options & ssl.OP_NO_RENEGOTIATION
    assert not proving.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_the_trusted_authorities_are_those_of_a_plain_context() -> None:
    trusted = build_context(TlsIdentity()).get_ca_certs(binary_form=True)
    if not trusted:
        pytest.skip("this machine's authorities are not in one file")
    found = {authority.public_bytes(Encoding.DER) for authority in trusted_authorities()}
    assert found
    assert found <= set(trusted)


def test_the_trusted_authorities_may_be_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, stranger: Authority
) -> None:
    (tmp_path / "aabbccdd.0").write_text(f"A comment\n{authority.pem}")
    (tmp_path / "aabbccdd.1").write_text("nothing that could be read")
    (tmp_path / "not-named-by-its-hash.pem").write_text(stranger.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert trusted_authorities() == [authority.certificate]
