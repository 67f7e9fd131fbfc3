"""Outside stores: a real OpenBao, AWS as moto plays it, and Azure's answers as its documentation has them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import SystemClock
from crossdock.settings import Settings
from tests.openbao import OpenBao, running_openbao


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: object) -> Iterator[OpenBao]:
    """A running server with a secret of two fields, one of a single field, and one that was deleted."""
    with running_openbao(tmp_path_factory.mktemp("openbao"), unused_tcp_port_factory()) as server:  # type: ignore[operator]
        server.put("crm/prod", key="hush-1", attempts=3)
        server.put("crm/prod", key="hush-2", attempts=3)
        server.put("single", password="hush-3")
        server.put("gone", key="x")
        server.call("DELETE", "secret/data/gone")
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    made = HttpTransport(policy=AddressPolicy(allow_loopback=True), clock=SystemClock())
    yield made
    await made.aclose()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})
