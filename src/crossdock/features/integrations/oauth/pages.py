"""The few words that a person's browser shows on the way to a provider and back; no script, nothing from elsewhere."""

from html import escape
from string import Template

from starlette.responses import HTMLResponse

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$title</title>
<style>
  :root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --link: #0b57d0; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6edf3; --soft: #9aa4af; --paper: #0d1117; --link: #79b8ff; }
  }
  body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
  main { max-width: 34rem; margin: 0 auto; padding: 4rem 1.25rem; }
  h1 { font-size: 1.5rem; margin: 0; } p { color: var(--soft); } a { color: var(--link); }
</style>
<main><h1>$title</h1>$body</main>
</html>
""")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, text: str, *, status: int = 200, link: tuple[str, str] | None = None) -> HTMLResponse:
    """A page with a title, a sentence and perhaps a link (address and words); everything is escaped."""
    body = f"<p>{escape(text)}</p>"
    if link is not None:
        address, words = link
        body += f'<p><a href="{escape(address)}" rel="noreferrer">{escape(words)}</a></p>'
    return HTMLResponse(_PAGE.substitute(title=escape(title), body=body), status_code=status, headers=HEADERS)
