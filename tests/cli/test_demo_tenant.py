"""What `crossdock serve --demo` makes."""

from pathlib import Path

import pytest

from crossdock.bootstrap import Services
from crossdock.cli.demo_tenant import demo_tenant
from crossdock.settings import Settings
from tests.serving import ApiClient


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, data_dir=tmp_path / "installation", allow_loopback=True)


async def test_the_demo_tenant_is_connected_to_the_hub_itself_and_again_after_every_start(
    services: Services, anonymous: ApiClient
) -> None:
    first = await demo_tenant(services, anonymous.base_url)
    api = anonymous.with_key(first.key)
    (made,) = (await api.get("/api/v1/integrations")).json["items"]
    assert (made["name"], made["status"], made["health"]) == ("This hub", "active", "healthy")
    (services.settings.data_dir / "demo.json").unlink()
    second = await demo_tenant(services, anonymous.base_url)
    assert second.key != first.key
    (still,) = (await anonymous.with_key(second.key).get("/api/v1/integrations")).json["items"]
    assert (still["id"], still["status"]) == (made["id"], "active")


async def test_a_hub_that_cannot_reach_itself_has_a_demo_tenant_all_the_same(
    services: Services, anonymous: ApiClient
) -> None:
    shown = await demo_tenant(services, "http://127.0.0.1:5")
    (made,) = (await anonymous.with_key(shown.key).get("/api/v1/integrations")).json["items"]
    assert made["status"] == "pending_validation"
