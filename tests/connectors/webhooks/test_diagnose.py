"""Each common cause is really produced, with a request that was signed as its sender does."""

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from crossdock.connectors.webhooks import InboundRequest, Preset, diagnose, preset_for, presets, sign, verify
from crossdock.connectors.webhooks.diagnose import OtherSecret, Refused, signs
from crossdock.connectors.webhooks.errors import WebhookRefusedError
from crossdock.connectors.webhooks.presets.mailgun import MailgunSignature
from crossdock.connectors.webhooks.presets.sendgrid import new_private_key, public_key_of
from crossdock.connectors.webhooks.signature import Verified
from tests.connectors.webhooks.bodies import SMS
from tests.connectors.webhooks.samples import NOW, OTHER_SECRET, SAMPLES, SECRET, URL, Sample, changed, sample_id
from tests.connectors.webhooks.samples import signed as honest

BODY = b'{"action":"opened","number":2,"path":"a/b","who":"zo\xc3\xab"}'


def signed(preset: str, body: bytes = BODY, *, secret: str = SECRET, url: str = URL, **more: Any) -> InboundRequest:
    return sign(presets()[preset], secret=secret, body=body, url=url, now=more.pop("now", NOW), **more)


def hints_for(
    preset: str | Preset, request: InboundRequest, *, secrets: Sequence[str] = (SECRET,), **known: Any
) -> list[str]:
    """What is said of a request that this endpoint really refuses."""
    kind = presets()[preset] if isinstance(preset, str) else preset
    with pytest.raises(WebhookRefusedError) as refusal:
        verify(kind, request=request, secrets=secrets, now=NOW)
    return diagnose.diagnose(
        Refused(preset=kind, request=request, reason=refusal.value.code, secrets=secrets, now=NOW, **known)
    )


def test_a_wrong_secret_alone_gives_the_plain_hints() -> None:
    hints = hints_for("github", signed("github", secret=OTHER_SECRET))
    assert "Compare the secret here" in hints[0]
    assert "byte for byte" in hints[1]
    assert len(hints) == 2


def test_where_the_sender_makes_the_secret_the_plain_hints_say_where_it_is() -> None:
    for name in ("stripe", "hubspot"):
        assert presets()[name].how_to in hints_for(name, signed(name, secret=OTHER_SECRET))[0]


def test_sendgrids_line_breaks_that_got_lost_are_recognized() -> None:
    private = new_private_key()
    sent = b'[{"event":"open"},\r\n{"event":"bounce"}]\r\n'
    request = changed(signed("sendgrid", sent, secret=private), body=sent.replace(b"\r\n", b"\n"))
    assert "CRLF instead of LF" in hints_for("sendgrid", request, secrets=[public_key_of(private)])[0]


def test_where_the_url_is_signed_the_plain_hints_name_it() -> None:
    hints = hints_for("twilio", signed("twilio", SMS, secret=OTHER_SECRET))
    assert any("https://hub.example.com/webhooks/acme/in" in hint and "public_url" in hint for hint in hints)
    assert not any("tenant=42" in hint for hint in hints), "a query may hold what is secret"


_SENT_BODIES = [
    (b'{"a": 1}', b'{"a": 1}\n', "without the line break at its end"),
    (b'{"a": 1}\n', b'{"a": 1}', "with a line break at its end"),
    (b'{\n"a": 1\n}', b'{\r\n"a": 1\r\n}', "LF instead of CRLF"),
    (b'{\r\n"a": 1\r\n}', b'{\n"a": 1\n}', "CRLF instead of LF"),
    (BODY, json.dumps(json.loads(BODY), indent=2).encode(), "as compact JSON"),
    (json.dumps(json.loads(BODY)).encode(), BODY, "as JSON with blanks between and \\u escapes"),
    (
        json.dumps(json.loads(BODY), separators=(",", ":")).replace("/", "\\/").encode(),
        BODY,
        "as compact JSON, \\u and \\/ escapes",
    ),
    (
        json.dumps(json.loads(BODY), indent=2, ensure_ascii=False).encode(),
        BODY,
        "as JSON indented by 2",
    ),
    (b'{"a":1,"b":2}', b'{"b": 2, "a": 1}', "as compact JSON with its keys in order"),
    (b'{"a":1}\n', b'{\n  "a": 1\n}', "as compact JSON and a line break at its end"),
    (b'{"a":1}\r\n', b'{"a": 1}', "as compact JSON and a line break (CRLF) at its end"),
    (BODY, gzip.compress(BODY, mtime=0), "decompressed"),
    (b'"zo\xc3\xab"', b'"zo\xc3\x83\xc2\xab"', "ISO 8859-1"),
    (b"\xef\xbb\xbf{}", b"{}", None),
]


@pytest.mark.parametrize(("sent", "arrived", "said"), _SENT_BODIES)
def test_a_body_that_was_changed_on_its_way_is_recognized(sent: bytes, arrived: bytes, said: str | None) -> None:
    hints = hints_for("github", changed(signed("github", sent), body=arrived))
    if said is None:
        assert "Compare the secret here" in hints[0]
    else:
        assert said in hints[0]
        assert "byte for byte" in hints[0]
        assert len(hints) == 1


def test_bodies_that_are_dear_to_read_are_read_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = MailgunSignature.verify

    def counting(self: MailgunSignature, request: InboundRequest, **given: Any) -> Verified:
        read.append(len(request.body))
        return real(self, request, **given)

    monkeypatch.setattr(MailgunSignature, "verify", counting)
    others = [OtherSecret(secret=f"another-{number}", owner="the other") for number in range(60)]
    body = b'{"event-data": {"text": "' + b"x" * 250_000 + b'"}}'
    hints_for("mailgun", signed("mailgun", body, secret=OTHER_SECRET), others=others)
    assert 0 < sum(read) < 1_100_000


def test_a_form_that_was_written_anew_is_recognized() -> None:
    sent, arrived = b"a=x+y&b=%C3%AB", b"a=x%20y&b=%C3%AB"
    assert "as a form with + for blanks" in hints_for("github", changed(signed("github", sent), body=arrived))[0]


def test_the_secret_of_another_endpoint_is_named() -> None:
    others = [OtherSecret(secret="whsec_x", owner='"A"'), OtherSecret(secret=OTHER_SECRET, owner='"Stripe live"')]
    hints = hints_for("stripe", signed("stripe", secret=OTHER_SECRET), others=others)
    assert 'the secret of "Stripe live"' in hints[0]
    assert "swapped" in hints[0]


def test_a_secret_that_was_rotated_out_is_dated() -> None:
    ended = OtherSecret(secret=OTHER_SECRET, ended_at=datetime(2026, 3, 1, 8, 30, tzinfo=UTC))
    hints = hints_for("github", signed("github", secret=OTHER_SECRET), others=[ended])
    assert "rotated out at 2026-03-01 08:30 UTC" in hints[0]


def test_another_endpoints_secret_and_a_changed_body_are_both_said() -> None:
    request = changed(signed("github", b"{}", secret=OTHER_SECRET), body=b"{}\n")
    hints = hints_for("github", request, others=[OtherSecret(secret=OTHER_SECRET, owner='"Live"')])
    assert "without the line break" in hints[0]
    assert '"Live"' in hints[0]


@pytest.mark.parametrize(
    ("entered", "said"),
    [(f" {SECRET}\n", "blanks around it"), (f'"{SECRET}"', "quotation marks"), (SECRET[:-1], None)],
)
def test_a_secret_with_something_around_it_is_recognized(entered: str, said: str | None) -> None:
    hints = hints_for("github", signed("github"), secrets=[entered])
    assert (said or "Compare the secret here") in hints[0]


def test_a_secret_with_a_line_break_at_the_sender_is_recognized() -> None:
    assert "line break" in hints_for("github", signed("github", secret=f"{SECRET}\n"))[0]


def test_a_secret_that_the_sender_decodes_is_recognized() -> None:
    decoded = hmac.new(base64.b64decode(SECRET), BODY, hashlib.sha256).hexdigest()
    request = changed(signed("github"), headers={"X-Hub-Signature-256": f"sha256={decoded}"})
    assert "decoded from base64" in hints_for("github", request)[0]
    generic = changed(signed("generic"), headers={"X-Signature": decoded})
    assert "change the setting signature.secret_encoding" in hints_for("generic", generic)[0]


def _generic(**signature: Any) -> Preset:
    return preset_for("generic", {"signature": {"header": "X-Signature", **signature}})


_OTHER_WAYS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"encoding": "base64"}, {}, "written in base64"),
    ({"prefix": "sha256="}, {}, "behind 'sha256='"),
    ({}, {"prefix": "sha256="}, "without a prefix"),
    ({"algorithm": "sha512"}, {}, "made with sha512"),
    ({"signed_content": "{url}{body}"}, {}, "what is signed is {url}{body}"),
    ({"prefix": "sha1=", "algorithm": "sha1"}, {}, "sha1 in hex behind 'sha1='"),
]


@pytest.mark.parametrize(("sends", "expects", "said"), _OTHER_WAYS)
def test_a_signature_made_in_another_way_is_recognized(
    sends: dict[str, Any], expects: dict[str, Any], said: str
) -> None:
    request = sign(_generic(**sends), secret=SECRET, body=BODY, url=URL, now=NOW)
    hints = hints_for(_generic(**expects), request)
    assert said in hints[0]
    assert len(hints) == 1


def test_url_safe_base64_is_recognized() -> None:
    scheme = _generic(encoding="base64")
    body = next(
        body
        for body in (b"%d" % n for n in range(1_000))
        if set(sign(scheme, secret=SECRET, body=body, url=URL, now=NOW).headers.get("x-signature") or "") & set("+/")
    )
    request = sign(scheme, secret=SECRET, body=body, url=URL, now=NOW)
    written = (request.headers.get("x-signature") or "").translate(str.maketrans("+/", "-_")).rstrip("=")
    assert "URL-safe" in hints_for(scheme, changed(request, headers={"X-Signature": written}))[0]


_SEEN_URLS: list[tuple[str, dict[str, str], str]] = [
    ("http://hub.example.com/webhooks/acme/in?tenant=42", {}, "https://hub.example.com/webhooks/acme/in"),
    ("https://hub.example.com/webhooks/acme/in/?tenant=42", {}, "https://hub.example.com/webhooks/acme/in"),
    (
        "http://10.0.0.5:8400/webhooks/acme/in?tenant=42",
        {"X-Forwarded-Host": "hub.example.com"},
        "https://hub.example.com/webhooks/acme/in",
    ),
    (
        "https://internal/webhooks/acme/in?tenant=42",
        {"Host": "hub.example.com"},
        "https://hub.example.com/webhooks/acme/in",
    ),
    (
        "https://hub.example.com/rewritten?tenant=42",
        {"X-Original-URI": "/webhooks/acme/in?tenant=42"},
        "https://hub.example.com/webhooks/acme/in",
    ),
]


@pytest.mark.parametrize(("seen", "headers", "wanted"), _SEEN_URLS)
def test_the_public_url_to_set_is_found(seen: str, headers: dict[str, str], wanted: str) -> None:
    hints = hints_for("twilio", changed(signed("twilio", SMS), url=seen, headers=headers))
    assert hints[0].endswith(f"set the endpoint's public_url to {wanted}.")


def test_another_known_url_is_tried() -> None:
    seen = changed(signed("twilio", SMS), url="https://wrong.example.com/elsewhere?tenant=42")
    assert "public_url to https://hub.example.com/webhooks/acme/in." in hints_for("twilio", seen, urls=[URL])[0]


def test_a_query_that_was_added_is_recognized() -> None:
    request = changed(signed("twilio", SMS, url="https://h.example.com/in"), url="https://h.example.com/in?utm=1")
    assert "without its query" in hints_for("twilio", request)[0]


def test_a_url_without_its_port_is_recognized_for_those_who_sign_it_so() -> None:
    scheme = _generic(signed_content="{url}{body}")
    request = sign(scheme, secret=SECRET, body=BODY, url="https://h.example.com/in", now=NOW)
    seen = changed(request, url="https://h.example.com:8443/in")
    assert "public_url to https://h.example.com/in." in hints_for(scheme, seen)[0]


@pytest.mark.parametrize(
    ("moved", "said"),
    [(timedelta(seconds=-1_234), "1234 s ago"), (timedelta(seconds=5_000), "5000 s in the future")],
)
def test_a_clock_that_is_off_is_measured(moved: timedelta, said: str) -> None:
    scheme = _generic(
        signed_content="{timestamp}.{body}", timestamp={"header": "X-Time", "unit": "s", "tolerance_s": 60}
    )
    request = sign(scheme, secret=SECRET, body=BODY, url=URL, now=NOW + moved)
    (hint,) = hints_for(scheme, request)
    assert said in hint
    assert "clock" in hint
    assert "replay" in hint


def test_a_stale_webhook_with_a_changed_body_is_no_matter_of_the_clock() -> None:
    request = changed(signed("stripe", b"{}", now=NOW - timedelta(hours=3)), body=b"{}\n")
    assert "without the line break" in hints_for("stripe", request)[0]


# Headers that are not of one sender alone, and none for those whose signature stands elsewhere.
_TELLS_NOTHING = ("", "x-signature")
_WITH_TELLING_HEADERS = [
    sample for sample in SAMPLES if sample.preset != "github" and sample.signature_header.lower() not in _TELLS_NOTHING
]


@pytest.mark.parametrize("sender", _WITH_TELLING_HEADERS, ids=sample_id)
def test_a_webhook_of_another_sender_is_recognized(sender: Sample) -> None:
    hints = hints_for("github", honest(sender))
    assert hints[0].startswith("This looks like a webhook from")
    # Two versions of HubSpot's signature stand in the same header.
    assert f"the preset {sender.preset[:7]}" in hints[0]


def test_a_mixed_up_preset_is_said_in_words() -> None:
    (hint,) = hints_for("github", signed("stripe"))
    assert hint.startswith("This looks like a webhook from Stripe, but the endpoint's preset is github")


def test_without_any_signature_the_sender_is_asked_to_sign() -> None:
    hints = hints_for("github", changed(signed("github"), without="X-Hub-Signature-256"))
    assert hints[0].startswith("GitHub signs once a secret is set")
    assert presets()["github"].how_to in hints[0]


def test_without_any_secret_the_next_step_is_named() -> None:
    (hint,) = hints_for("stripe", signed("stripe"), secrets=[])
    assert "rotate-secret" in hint
    assert presets()["stripe"].how_to in hint


def test_a_wrong_content_type_is_recognized() -> None:
    request = changed(signed("twilio", SMS), headers={"Content-Type": "text/plain"})
    assert "Content-Type application/x-www-form-urlencoded" in hints_for("twilio", request)[0]


def test_a_proxy_that_is_not_trusted_is_named() -> None:
    for headers, said in (({}, "allowed_sources"), ({"X-Forwarded-For": "192.0.2.1"}, "CROSSDOCK_TRUSTED_PROXIES")):
        refused = Refused(
            preset=presets()["github"],
            request=changed(signed("github"), headers=headers),
            reason="address_refused",
            source_address="10.1.2.3",
            now=NOW,
        )
        hints = diagnose.diagnose(refused)
        assert "10.1.2.3" in hints[0]
        assert said in hints[0]
        (hint,) = diagnose.diagnose(replace(refused, reason="proxy_untrusted"))
        assert "10.1.2.3" in hint


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("proxy_untrusted", "CROSSDOCK_TRUSTED_PROXIES"),
        ("topic_unknown", "topic_arns"),
        ("sender_unlisted", "settings"),
        ("certificate_unavailable", "firewall"),
        ("certificate_wrong", "imitates"),
        ("certificate_for_testing", "CROSSDOCK_TRUST_TEST_WEBHOOKS=true"),
    ],
)
def test_reasons_beyond_signatures_are_explained(reason: str, said: str) -> None:
    refused = Refused(preset=presets()["github"], request=signed("github"), reason=reason, now=NOW)
    (hint,) = diagnose.diagnose(refused)
    assert said in hint


def test_without_secrets_nobody_is_told_to_compare_any() -> None:
    kind = presets()["amazon_sns"]
    request = InboundRequest(url=URL, body=b"{}")
    hints = diagnose.diagnose(Refused(preset=kind, request=request, reason="signature_wrong", now=NOW))
    assert f"imitates {kind.title}" in hints[0]


def test_reasons_that_need_no_guessing_get_no_guess() -> None:
    refused = Refused(preset=presets()["github"], request=signed("github"), reason="elsewhere", now=NOW)
    assert diagnose.diagnose(refused) == []


@pytest.mark.parametrize("sample", SAMPLES, ids=sample_id)
def test_no_hint_holds_a_secret_or_a_signature(sample: Sample) -> None:
    """Whoever may read hints must not learn from them how to sign a body of his choice."""
    kind = presets()[sample.preset]
    others = [OtherSecret(secret=OTHER_SECRET, owner='"Other"'), OtherSecret(secret=SECRET + "x")]
    right = honest(sample)
    parts = {
        part for _, value in right.headers.items() for part in value.replace("=", ",").split(",") if len(part) > 20
    }
    parts |= {SECRET, OTHER_SECRET}
    for request in (
        changed(right, body=right.body + b"\n"),
        changed(right, url=f"{right.url}&more=1"),
        honest(sample, other=True),
    ):
        for reason in ("signature_wrong", "signature_malformed", "timestamp_stale", "signature_missing"):
            told = Refused(preset=kind, request=request, reason=reason, secrets=[SECRET], others=others, now=NOW)
            said = " ".join(diagnose.diagnose(told))
            assert not [part for part in parts if part in said]


class _Counting:
    """A way of signing that counts how often it is asked, and how much it is given."""

    needs_secret = True

    def __init__(self) -> None:
        self.tries = self.bytes = 0
        self.inner = presets()["twilio"].signature

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def verify(self, request: InboundRequest, **given: Any) -> Any:
        self.tries += 1
        self.bytes += len(request.body)
        return self.inner.verify(request, **given)


@pytest.mark.parametrize("size", [100, 60_000, 500_000])
def test_the_work_is_bounded(size: int) -> None:
    counting = _Counting()
    kind = Preset(name="counting", title="Counting", how_to="Count.", signature=counting)
    request = changed(signed("twilio", b"a=" + b"x" * size, secret=OTHER_SECRET), headers={"X-Forwarded-Host": "a,b,c"})
    others = [OtherSecret(secret=f"s{number}", owner="another") for number in range(500)]
    found = diagnose.diagnose(
        Refused(preset=kind, request=request, reason="signature_wrong", secrets=[SECRET] * 4, others=others, now=NOW)
    )
    assert "Compare the secret here" in found[0]
    assert 0 < counting.tries <= 400
    assert counting.bytes <= 16_000_000


def test_a_body_that_takes_seconds_to_write_anew_in_every_way_is_not_varied() -> None:
    request = signed("github", b'"' + b"x" * 64_000 + b'"')
    hints = hints_for("github", changed(request, body=request.body + b"\n"))
    assert "Compare the secret here" in hints[0]


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b"\x1f\x8bnot gzip", b"\xff\xfe\x00", b"NaN", b'"\\ud800"', b"=&=;"]
)
def test_any_body_is_survived(body: bytes) -> None:
    assert hints_for("github", signed("github", body, secret=OTHER_SECRET))


def test_a_bomb_is_not_inflated_far() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert "Compare the secret here" in hints_for("github", signed("github", bomb, secret=OTHER_SECRET))[0]


def test_urls_that_cannot_be_read_are_survived() -> None:
    for url in ("", "http://[::1/x", "//", "https://h:port/"):
        request = changed(signed("twilio", SMS), headers={"Host": "[::", "X-Forwarded-Host": ",,"})
        assert hints_for("twilio", replace(request, url=url))


def test_what_is_signed_is_found_out_by_signing() -> None:
    def other_body(request: InboundRequest) -> InboundRequest:
        return changed(request, body=b"other")

    def other_url(request: InboundRequest) -> InboundRequest:
        return changed(request, url=f"https://{urlsplit(URL).hostname}/other")

    github, twilio = presets()["github"], presets()["twilio"]
    assert signs(github, signed("github"), other_body)
    assert not signs(github, signed("github"), other_url)
    assert signs(twilio, signed("twilio", SMS), other_url)
    assert not signs(presets()["none"], signed("github"), other_body)
    for keys_elsewhere in ("sendgrid", "paypal"):
        assert signs(presets()[keys_elsewhere], signed("github"), other_body)
        assert not signs(presets()[keys_elsewhere], signed("github"), other_url)
