"""Fixtures that every part of the suite shares."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import cache, partial
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import TypeAlias

import pytest
from argon2 import PasswordHasher

from crossdock.api.server import hub_app
from crossdock.bootstrap import Services, build
from crossdock.connectors.manifest import Manifest, library
from crossdock.connectors.manifest.loader import parse_manifest
from crossdock.db import migrate
from crossdock.db.engine import Database
from crossdock.features.identity import passwords
from crossdock.features.inbound import handlers
from crossdock.kit.clock import Clock, SystemClock
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings
from tests.accounts import Account, make_account, make_template_with
from tests.engines import prepared_engines
from tests.network_guard import guarded_network
from tests.postgres import Databases, make_template, one_at_a_time, test_server
from tests.serving import ApiClient, client_of

# Folders whose tests start and kill many processes.
_LONG = ("tests/journeys/", "tests/db/embedded/", "tests/bench/")

_SLUGS = ("acme", "globex")

TemplateWith: TypeAlias = Callable[[tuple[str, ...]], tuple[str, dict[str, Account]]]


def pytest_configure() -> None:
    """Ctrl-C reaches the programs under test also where a script started the tests in the background.

    A shell without job control lets such a command, and all it starts, ignore it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until everything is imported and collected, which stays


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker is alone with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _network_guard() -> Iterator[None]:
    """Nothing outside this machine is reached."""
    with guarded_network():
        yield


@pytest.fixture(autouse=True, scope="session")
def _logging() -> None:
    """Logs are lines of JSON, as in production."""
    configure_logging(level="info", log_format="json")


@pytest.fixture(autouse=True, scope="session")
def _cheap_passwords() -> Iterator[None]:
    """Password hashes cost next to nothing: most tests only need a user to be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "PasswordHasher", partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Nothing of a test outlives it, so nothing need survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _prepared_engines() -> Iterator[None]:
    """Statements are compiled once for all databases."""
    with prepared_engines():
        yield


@pytest.fixture(autouse=True, scope="session")
def _packages_are_looked_through_once() -> Iterator[None]:
    """What is installed stays so while the search path does: looking is a twentieth of the work of an API test."""

    @cache
    def found(group: str, _path: tuple[str, ...]) -> EntryPoints:
        return entry_points(group=group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "entry_points", lambda *, group: found(group, tuple(sys.path)))
        yield


@pytest.fixture(autouse=True, scope="session")
def _manifests_are_read_once() -> Iterator[None]:
    """Every test has a library of its own, whose manifests are the same and never change."""

    @cache
    def read(text: str, source: str) -> Manifest:
        return parse_manifest(text, source=source)

    def load(path: Path) -> Manifest:
        return read(path.read_text(encoding="utf-8"), f"{path.parent.name}/{path.name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load_manifest", load)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def server_url(shared_folder: Path) -> Iterator[str]:
    """The owner's address of a PostgreSQL server."""
    with test_server(shared_folder) as url:
        yield url


@pytest.fixture(scope="session")
def database_template(server_url: str, shared_folder: Path) -> str:
    """The name of a migrated database to copy."""
    with one_at_a_time(shared_folder / "template.lock"):
        return make_template(server_url)


@pytest.fixture(scope="session")
def databases(server_url: str) -> Iterator[Databases]:
    """Makes databases for tests, and drops them."""
    made = Databases(server_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def template_with(server_url: str, database_template: str, shared_folder: Path) -> TemplateWith:
    """The name of a migrated database to copy that has certain tenants, and these."""

    @cache
    def made(slugs: tuple[str, ...]) -> tuple[str, dict[str, Account]]:
        if not slugs:
            return database_template, {}
        with one_at_a_time(shared_folder / "template.lock"):
            name, accounts = asyncio.run(make_template_with(server_url, database_template, slugs))
        return name, {account.slug: account for account in accounts}

    return made


@pytest.fixture
def starting_point(request: pytest.FixtureRequest, template_with: TemplateWith) -> tuple[str, dict[str, Account]]:
    """What this test's database is copied from: it has the tenants that the test's fixtures ask for."""
    wanted = [f"copied_{slug}" in request.fixturenames for slug in _SLUGS]
    return template_with(_SLUGS[: sum(wanted)] if wanted[0] else ())


@pytest.fixture
def copied_acme(starting_point: tuple[str, dict[str, Account]]) -> Account | None:
    """The tenant that the database was copied with, for `tenant`."""
    return starting_point[1].get("acme")


@pytest.fixture
def copied_globex(starting_point: tuple[str, dict[str, Account]]) -> Account | None:
    """The same for `other_tenant`; None where `tenant` is not wanted."""
    return starting_point[1].get("globex")


@pytest.fixture
def database_url(databases: Databases, starting_point: tuple[str, dict[str, Account]]) -> Iterator[str]:
    """The owner's address of a migrated database of this test's own."""
    template, _ = starting_point
    url = databases.create(template)
    yield url
    databases.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database."""
    opened = Database(database_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of an installation on this test's database."""
    return Settings(database_url=database_url, data_dir=tmp_path / "installation")


@pytest.fixture
def clock() -> Clock:
    """The clock of `services`; a test that moves time by hand overrides this with a FixedClock."""
    return SystemClock()


@pytest.fixture
async def services(settings: Settings, clock: Clock) -> AsyncIterator[Services]:
    """Everything a process has, running."""
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # a copy is as good as its template, which a start has looked at
            patch.setattr(migrate, "check", _found_good)
            patch.setattr(Database, "check_roles", _found_good)
            built = await stack.enter_async_context(build(settings, clock=clock))
        yield built


async def _found_good(_what: object) -> None:
    pass


@pytest.fixture
async def tenant(services: Services, copied_acme: Account | None) -> Account:
    """A tenant with an owner and a key that may do everything."""
    return copied_acme or await make_account(services, "acme")


@pytest.fixture
async def other_tenant(services: Services, copied_globex: Account | None) -> Account:
    """Another tenant, whose things are none of the first one's business."""
    return copied_globex or await make_account(services, "globex")


@pytest.fixture
async def anonymous(services: Services) -> AsyncIterator[ApiClient]:
    """A client of the running API, without a key."""
    async with client_of(hub_app(services)) as client:
        yield client


@pytest.fixture
def api(anonymous: ApiClient, tenant: Account) -> ApiClient:
    """A client of the running API with the tenant's key."""
    return anonymous.with_key(tenant.key)


@pytest.fixture
def other_api(anonymous: ApiClient, other_tenant: Account) -> ApiClient:
    """The same with the other tenant's key."""
    return anonymous.with_key(other_tenant.key)
