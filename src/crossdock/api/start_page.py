"""`GET /`: what somebody sees who follows the link that the start-up prints."""

from importlib.metadata import version
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crossdock</title>
<style>
  :root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --link: #0b57d0; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6edf3; --soft: #9aa4af; --line: #30363d; --paper: #0d1117; --link: #79b8ff; }
  }
  body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
  main { max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem; }
  h1 { font-size: 1.75rem; margin: 0; } p { margin: .5rem 0 1.5rem; color: var(--soft); }
  ul { list-style: none; padding: 0; margin: 0 0 1.5rem; border-top: 1px solid var(--line); }
  li { border-bottom: 1px solid var(--line); } a { color: var(--link); text-decoration: none; }
  li a { display: block; padding: .75rem 0; } li a:hover, li a:focus-visible { text-decoration: underline; }
  small { display: block; color: var(--soft); }
  pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: .5rem; font-size: .875rem; }
</style>
<main>
  <h1>Crossdock</h1>
  <p>Version $version is running. Webhooks come in at one door and leave by another.</p>
  <ul>
    <li><a href="/api/v1/openapi.json">OpenAPI description<small>every operation, for your tools</small></a></li>
    <li><a href="/health/ready">Readiness<small>whether this hub can take events in</small></a></li>
    <li><a href="/metrics">Metrics<small>in Prometheus' format</small></a></li>
  </ul>
  <p>Publish a first event with the key that the start-up printed:</p>
  <pre>curl -X POST $origin/api/v1/events \\
  -H "Authorization: Bearer \\$$CROSSDOCK_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"type": "order.created", "data": {"order_id": 1}}'</pre>
</main>
</html>
""")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def start_page_route() -> BaseRoute:
    """The route."""
    text = _PAGE.substitute(version=version("crossdock"), origin="$origin")

    async def start_page(request: Request) -> Response:
        origin = f"{request.url.scheme}://{request.url.netloc}"
        safe = origin if all(char.isalnum() or char in ":/.-_[]" for char in origin) else ""
        return HTMLResponse(text.replace("$origin", safe), headers=_HEADERS)

    return Route("/", start_page, methods=["GET"])
