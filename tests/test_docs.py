"""What the pages under docs/ say is there, and leads somewhere."""

import re
from pathlib import Path

import pytest

from crossdock.connectors.webhooks import presets

_ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for place, anchor in _LINK.findall(page.read_text()):
        if place.startswith(("http://", "https://")):
            continue
        target = page.parent / place if place else page
        assert target.exists(), f"{place} is not there"
        if anchor:
            assert anchor in _anchors(target), f"{place}#{anchor} is not there"


def _anchors(page: Path) -> set[str]:
    """What a heading is called in links: in lower case, blanks as -, without punctuation."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(page.read_text())
    }


@pytest.mark.parametrize("name", presets())
def test_the_setup_of_every_sender_is_described(name: str) -> None:
    assert f"`{name}`" in (_ROOT / "docs" / "webhooks-from-providers.md").read_text()
