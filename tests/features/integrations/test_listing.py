"""Lists: filters, search, pages, and how the database reads them."""

from typing import Any

import asyncpg
import pytest

from crossdock.bootstrap import Services
from crossdock.db.urls import libpq_url
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.http.pagination import PageRequest
from tests.accounts import Account
from tests.features.integrations.conftest import INTEGRATIONS, Desk
from tests.serving import ApiClient
from tests.stand_in import API_KEY

_FILL = """
INSERT INTO integrations (tenant_id, id, provider, provider_version, category, environment, owner, name, auth_method,
                          config, created_by, updated_by, status)
SELECT $1, ('01900000-0000-7000-8000-' || lpad(to_hex($3 * 10000 + n), 12, '0'))::uuid, 'key_header', '1.0.0', 'crm',
       'production', 'user-' || n, 'Integration ' || n, 'api_key', jsonb_build_object('note', repeat('x', 5000)),
       'test', 'test', 'active'
  FROM generate_series(1, $2::int) AS n
"""


@pytest.fixture
async def some(desk: Desk) -> list[str]:
    """A few, made in this order."""
    made = [
        await desk.create(name="Customers of the north", environment="production"),
        await desk.create(name="100% legacy", environment="sandbox", external_id="old-7", source_system="bpo"),
        await desk.create(
            name="Loads",
            provider="key_query",
            config={"base_url": desk.provider.url},
            credentials={"api_key": API_KEY},
            owner="anna",
        ),
        await desk.create(name="Draft", provider="generic_http", draft=True, config={}, credentials={}),
    ]
    return [one["name"] for one in made]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, ["Draft", "Loads", "100% legacy", "Customers of the north"]),
        ({"status": "draft"}, ["Draft"]),
        ({"provider": "key_header"}, ["100% legacy", "Customers of the north"]),
        ({"type": "load_board"}, ["Loads"]),
        ({"environment": "sandbox"}, ["100% legacy"]),
        ({"owner": "anna"}, ["Loads"]),
        ({"health": "unknown"}, ["Draft"]),
        ({"search": "NORTH"}, ["Customers of the north"]),
        ({"search": "0%"}, ["100% legacy"]),
        ({"search": "old-7"}, ["100% legacy"]),
        ({"search": "an"}, ["Loads"]),
        ({"status": "active", "environment": "production", "type": "crm"}, ["Customers of the north"]),
        ({"search": "nothing"}, []),
    ],
)
@pytest.mark.usefixtures("some")
async def test_a_list_is_narrowed_and_searched(desk: Desk, params: dict[str, str], found: list[str]) -> None:
    answer = await desk.api.get(INTEGRATIONS, params=params)
    assert answer.status == 200
    assert [one["name"] for one in answer.json["items"]] == found


async def test_pages_go_through_all_once(desk: Desk, some: list[str]) -> None:
    names, params = [], {"limit": "3"}
    while True:
        answer = (await desk.api.get(INTEGRATIONS, params=params)).json
        names += [one["name"] for one in answer["items"]]
        if answer["next_cursor"] is None:
            break
        params["cursor"] = answer["next_cursor"]
    assert names == some[::-1]


@pytest.mark.parametrize("params", [{"status": "resting"}, {"type": "cars"}, {"cursor": "x"}, {"limit": "1000"}])
async def test_a_filter_that_means_nothing_is_refused(desk: Desk, params: dict[str, str]) -> None:
    assert (await desk.api.get(INTEGRATIONS, params=params)).status == 422


async def test_a_page_is_read_by_the_key_whatever_the_tenants_have(
    services: Services, tenant: Account, other_tenant: Account, database_url: str
) -> None:
    owner = await asyncpg.connect(libpq_url(database_url))
    try:
        for number, account in enumerate((tenant, other_tenant)):
            await owner.execute(_FILL, account.tenant_id, 1_000, number)
    finally:
        await owner.close()
    for wanted in (Wanted(), Wanted(text="integration 77")):
        plan = await _plan(services, tenant, wanted)
        scans = [node for node in _nodes(plan) if "Relation Name" in node]
        assert [node["Index Name"] for node in scans] == ["integrations_pkey"], plan
        assert not [node for node in _nodes(plan) if node["Node Type"] in {"Sort", "Seq Scan"}], plan
        # A page's rows and the one behind it, not the tenant's thousand.
        most = 51 if wanted.text is None else 1_000
        assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans) <= most


async def test_the_list_leaves_large_columns_where_they_are(services: Services, tenant: Account, desk: Desk) -> None:
    await desk.create()
    async with services.database.tenant(tenant.tenant_id) as session:
        (row,) = await IntegrationRepository(session).page(PageRequest(), Wanted())
        assert {"config", "credentials", "custom_fields"}.isdisjoint(row._mapping)


async def test_providers_are_listed_and_described_as_a_form_needs_them(api: ApiClient) -> None:
    listed = {one["code"]: one for one in (await api.get(f"{INTEGRATIONS}/providers")).json}
    assert listed["generic_http"]["environments"] == ["production", "sandbox", "test"]
    assert listed["basic_payments"]["exclusive"]
    assert listed["announced"]["status"] == "coming_soon"
    found = (await api.get(f"{INTEGRATIONS}/providers/key_header")).json
    assert found["spec"]["properties"]["region"]["enum"] == ["eu", "us"]
    assert found["auth"][0]["credentials"][0]["name"] == "api_key"
    assert (found["versions"], found["rate_limit"]) == (["1.0.0"], [{"calls": 100, "seconds": 10.0}])
    assert (await api.get(f"{INTEGRATIONS}/providers/nobody")).status == 404


@pytest.mark.parametrize(
    ("params", "codes"),
    [
        ({"category": "payments"}, ["basic_payments", "bearer_payments"]),
        ({"search": "by PASSWORD"}, ["basic_payments"]),
        ({"status": "coming_soon"}, ["announced"]),
    ],
)
async def test_the_list_of_providers_is_narrowed(api: ApiClient, params: dict[str, str], codes: list[str]) -> None:
    answer = await api.get(f"{INTEGRATIONS}/providers", params=params)
    assert [one["code"] for one in answer.json] == codes


async def _plan(services: Services, tenant: Account, wanted: Wanted) -> dict[str, Any]:
    """How the database reads a page, as the app's role with row-level security."""
    async with services.database.tenant(tenant.tenant_id) as session:
        await IntegrationRepository(session).page(PageRequest(), wanted)
        query = IntegrationRepository.page_query(PageRequest(), wanted)
        connection = await session.connection()
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}".replace("%%", "%"))
        plan: dict[str, Any] = rows.scalar_one()[0]["Plan"]
        return plan


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in _nodes(below))]
