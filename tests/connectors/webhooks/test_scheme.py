import pytest

from crossdock.connectors.webhooks import preset_for, presets, read_scheme
from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.connectors.webhooks.hmac_signature import HmacSignature

SIGNED_TIME = {"signed_content": "{timestamp}.{body}"}


@pytest.mark.parametrize(
    ("document", "pointer", "what"),
    [
        ({}, "/header", "required"),
        ({"header": "bad header"}, "/header", "cannot be the name"),
        ({"header": "X-{n}-{n}"}, "/header", "cannot be the name"),
        ({"header": "X-S", "algorithm": "md5"}, "/algorithm", "'sha1', 'sha256' or 'sha512'"),
        ({"header": "X-S", "encoding": "base32"}, "/encoding", "'hex' or 'base64'"),
        ({"header": "X-S", "typo": 1}, "/typo", "not permitted"),
        ({"header": "X-S", "prefix": 7}, "/prefix", "valid string"),
        ({"header": "X-S", "separator": "|"}, "/separator", "',', ';' or ' '"),
        ({"header": "X-S", "signed_content": "{url}"}, "/signed_content", "{body} is missing"),
        ({"header": "X-S", "signed_content": "{boddy}"}, "/signed_content", "{boddy} is not known"),
        ({"header": "X-S", "signed_content": "{body}}"}, "/signed_content", "brace"),
        ({"header": "X-S", "signed_content": "{header:a b}{body}"}, "/signed_content", "cannot be the name"),
        ({"header": "X-S", "secret_encoding": "rot13"}, "/secret_encoding", "'text', 'base64', 'hex' or 'whsec'"),
        ({"header": "X-S", **SIGNED_TIME}, "", "timestamp must say where"),
        ({"header": "X-S", "timestamp": {"header": "X-T"}}, "", "can be forged"),
        ({"header": "X-S", **SIGNED_TIME, "timestamp": {"field": "t"}}, "", "needs a separator"),
        ({"header": "X-S", **SIGNED_TIME, "timestamp": {}}, "/timestamp", "either header or field"),
        (
            {"header": "X-S", **SIGNED_TIME, "timestamp": {"header": "X-T", "field": "t"}},
            "/timestamp",
            "either header or field",
        ),
        (
            {"header": "X-S", **SIGNED_TIME, "timestamp": {"header": "X-T", "tolerance_s": 0}},
            "/timestamp/tolerance_s",
            "greater than or equal to 1",
        ),
        (
            {"header": "X-S", **SIGNED_TIME, "timestamp": {"header": "X-T", "unit": "min"}},
            "/timestamp/unit",
            "'s', 'ms' or 'iso8601'",
        ),
        ("text", "", "valid dictionary"),
    ],
)
def test_a_wrong_scheme_names_the_field(document: object, pointer: str, what: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        read_scheme(document, pointer="/signature")
    assert caught.value.status == 422
    assert (f"/signature{pointer}", True) in [(one.pointer, what in one.message) for one in caught.value.faults]


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        read_scheme({"header": "a b", "algorithm": "md5", "encoding": "x"})
    assert {fault.pointer for fault in caught.value.faults} == {"/header", "/algorithm", "/encoding"}


@pytest.mark.parametrize("secret_encoding", ["text", "base64", "hex", "whsec"])
def test_a_new_secret_is_one(secret_encoding: str) -> None:
    signature = HmacSignature(read_scheme({"header": "X-S", "secret_encoding": secret_encoding}))
    first, second = signature.new_secret(), signature.new_secret()
    signature.check_secret(first)
    assert first != second


@pytest.mark.parametrize(
    ("secret_encoding", "secret"),
    [
        ("text", ""),
        ("hex", "xyz"),
        ("hex", ""),
        ("base64", "no!"),
        ("base64", "é"),
        ("whsec", "whsec_"),
        ("whsec", "whsec_?"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_repeating_it(secret_encoding: str, secret: str) -> None:
    signature = HmacSignature(read_scheme({"header": "X-S", "secret_encoding": secret_encoding}))
    with pytest.raises(InvalidSettingsError) as caught:
        signature.check_secret(secret, pointer="/secret")
    assert caught.value.faults[0].pointer == "/secret"
    if len(secret) > 2:
        assert secret not in caught.value.message


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidSettingsError, match=r"docusign, .*, none") as caught:
        preset_for("gitlab", name_pointer="/verification/preset")
    assert caught.value.faults[0].pointer == "/verification/preset"


def test_a_preset_of_a_provider_takes_no_settings() -> None:
    assert preset_for("github", {}) is presets()["github"]
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("github", {"signature": {}})
    assert caught.value.faults[0].pointer == "/settings"


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"signature": {"algorithm": "sha1"}}, "/settings/signature/header"),
        ({"event_id": {}}, "/settings/event_id"),
        ({"event_id": {"header": "X-Id", "expression": "id"}}, "/settings/event_id"),
        ({"event_type": {"expression": "data["}}, "/settings/event_type/expression"),
        ({"event_type": {"header": "a:b"}}, "/settings/event_type/header"),
    ],
)
def test_wrong_settings_of_generic_name_their_place(settings: object, pointer: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("generic", settings)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
