"""A real authorization server of npm's `oidc-provider`, where the machine has Node and the package was installed."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp

FOLDER = Path(__file__).parent / "oidc"
_MOST_HOPS = 12


def missing() -> str | None:
    """What this machine lacks for it."""
    if shutil.which("node") is None:
        return "there is no Node on this machine"
    if not (FOLDER / "node_modules" / "oidc-provider").exists():
        return "oidc-provider is not installed: npm ci --prefix tests/oidc"
    return None


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """Says yes to everybody; rotates refresh tokens, and ends a grant whose refresh token comes twice."""

    url: str
    redirect_uri: str

    async def consent(self, authorize_url: str) -> dict[str, list[str]]:
        """What a browser brings back to the redirect URI from there, as a query."""
        jar = aiohttp.CookieJar(unsafe=True)  # it is an IP address
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            url = authorize_url
            for _ in range(_MOST_HOPS):
                async with browser.get(url, allow_redirects=False) as response:
                    url = urljoin(url, response.headers.get("Location", ""))
                    assert response.status in {302, 303}, await response.text()
                if url.startswith(self.redirect_uri):
                    return parse_qs(urlsplit(url).query)
        raise AssertionError(f"no end of redirects at {url}")

    async def seen(self) -> dict[str, int]:
        """How often tokens were refreshed, requests failed, grants were revoked."""
        async with aiohttp.ClientSession() as client, client.get(f"{self.url}/seen") as response:
            found: dict[str, int] = await response.json()
            return found


@asynccontextmanager
async def oidc_provider(redirect_uri: str) -> AsyncIterator[OidcProvider]:
    """One, for the client `hub` with the secret `hush`."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(FOLDER / "server.mjs"),
        redirect_uri,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        assert url, "the server did not start"
        yield OidcProvider(url=url, redirect_uri=redirect_uri)
    finally:
        process.kill()
        await process.wait()
