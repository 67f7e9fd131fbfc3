import pytest

from crossdock.observability.redaction import is_secret_name


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "X-Goog-Channel-Token",
        "clientState",
        "SessionId",
        "session_id",
        "password",
        "Ocp-Apim-Subscription-Key",
        "x-functions-key",
        "X-Auth-Key",
        "accessKey",
        "client_assertion",
        "code_verifier",
        "pwd",
        "x-jwt",
        "X-Shopify-Hmac",
    ],
)
def test_what_other_systems_call_their_secrets_is_hidden(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "state",
        "clientStatement",
        "session",
        "X-Goog-Channel-ID",
        "passenger",
        "access_key_id",
        "idempotency-key",
        "shipping",
    ],
)
def test_what_only_sounds_like_it_is_shown(name: str) -> None:
    assert not is_secret_name(name)
