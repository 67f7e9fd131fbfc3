import json
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    presets,
    read_document,
    sign,
    verify,
)
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.mapping.json_values import JsonValue
from tests.connectors.webhooks.samples import NOW, SECRET, URL

GITHUB = presets()["github"]
PAYLOADS = Path(__file__).parents[5] / "shared/suites/github-webhooks/api.github.com"


def test_the_vector_that_github_publishes_is_accepted() -> None:
    request = InboundRequest(
        url=URL,
        headers=Headers(
            [
                (
                    "X-Hub-Signature-256",
                    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                )
            ]
        ),
        body=b"Hello, World!",
    )
    assert verify(GITHUB, request=request, secrets=["It's a Secret to Everybody"], now=NOW).secret_index == 0


@pytest.mark.parametrize(
    ("event", "body", "expected"),
    [
        ("push", b'{"ref":"refs/heads/main"}', "github.push"),
        ("pull_request", b'{"action":"opened"}', "github.pull_request.opened"),
        ("ping", b'{"zen":"Design for failure."}', "github.ping"),
        ("check_run", b'{"action":7}', "github.check_run.7"),
        ("../../etc", b"{}", "github._._etc"),
    ],
)
def test_the_type_is_event_and_action(event: str, body: bytes, expected: str) -> None:
    headers = Headers(
        [("X-GitHub-Event", event), ("X-GitHub-Delivery", "72d3162e"), ("Content-Type", "application/json")]
    )
    request = InboundRequest(url=URL, headers=headers, body=body)
    assert identify(GITHUB, request, read_document(GITHUB, request).document) == EventIdentity("72d3162e", expected)


@pytest.mark.parametrize(
    ("event", "document"),
    [
        ("push", {"repository": {"pushed_at": 1773500966}}),
        (
            "pull_request",
            {"pull_request": {"updated_at": "2026-03-14T15:09:26Z", "created_at": "2020-01-01T00:00:00Z"}},
        ),
        ("issues", {"issue": {"updated_at": "2026-03-14T15:09:26Z"}}),
        ("issue_comment", {"comment": {"updated_at": "2026-03-14T15:09:26Z"}, "issue": {"updated_at": "2020-01-01"}}),
        ("pull_request_review", {"review": {"submitted_at": "2026-03-14T15:09:26Z"}}),
        ("release", {"release": {"created_at": "2026-03-14T15:09:26Z"}}),
    ],
)
def test_the_time_is_that_of_what_the_event_is_about(event: str, document: dict[str, JsonValue]) -> None:
    request = InboundRequest(url=URL, headers=Headers([("X-GitHub-Event", event)]), body=b"")
    assert identify(GITHUB, request, document).time == NOW
    assert identify(GITHUB, request, {}).time is None


def test_a_form_body_is_the_json_inside_it() -> None:
    payload = '{"action":"opened","title":"ünï & co"}'
    body = f"payload={quote_plus(payload)}".encode()
    request = sign(
        GITHUB,
        secret=SECRET,
        body=body,
        url=URL,
        now=NOW,
        event=EventIdentity(id="d-1", type="github.issues.opened"),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert verify(GITHUB, request=request, secrets=[SECRET], now=NOW).secret_index == 0
    document = read_document(GITHUB, request).document
    assert document == json.loads(payload)
    assert identify(GITHUB, request, document) == EventIdentity("d-1", "github.issues.opened")


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the shared suite of GitHub payloads is not here")
def test_real_payloads_are_read_and_named() -> None:
    read = 0
    for path in sorted(PAYLOADS.rglob("*.json")):
        body = path.read_bytes()
        event = EventIdentity(type=path.parent.name, id=path.stem)
        request = sign(GITHUB, secret=SECRET, body=body, url=URL, now=NOW, event=event)
        assert verify(GITHUB, request=request, secrets=[SECRET], now=NOW).secret_index == 0
        try:
            expected = json.loads(body)
        except ValueError:
            # The suite holds one file that was cut off.
            with pytest.raises(InvalidBodyError, match="ends too early"):
                read_document(GITHUB, request)
            continue
        document = read_document(GITHUB, request).document
        assert document == expected
        found = identify(GITHUB, request, document)
        assert found.id == path.stem
        assert (found.type or "").startswith(f"github.{path.parent.name}")
        read += 1
    assert read > 60
