import pytest

from crossdock.connectors.webhooks import presets, sign, verify
from crossdock.connectors.webhooks.errors import MissingSignatureError
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import NOW, SECRET, URL

PRESET = presets()["github_sha1"]


def test_the_older_signature_of_githubs_vector_is_accepted() -> None:
    # Made with openssl: printf 'Hello, World!' | openssl dgst -sha1 -hmac "It's a Secret to Everybody"
    request = webhook(b"Hello, World!", ("X-Hub-Signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59"))
    assert verify(PRESET, request=request, secrets=["It's a Secret to Everybody"], now=NOW).secret_index == 0


def test_neither_preset_accepts_the_others_signature() -> None:
    for one, other in (("github", "github_sha1"), ("github_sha1", "github")):
        request = sign(presets()[one], secret=SECRET, body=b"{}", url=URL, now=NOW)
        with pytest.raises(MissingSignatureError):
            verify(presets()[other], request=request, secrets=[SECRET], now=NOW)


def test_events_are_named_as_githubs() -> None:
    request = webhook(b'{"action":"opened"}', ("X-GitHub-Event", "issues"), ("X-GitHub-Delivery", "72d3162e"))
    (found,) = identities_of(PRESET, request)
    assert (found.id, found.type) == ("72d3162e", "github.issues.opened")
