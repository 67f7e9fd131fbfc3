"""Masking in texts."""

import pytest

from crossdock.observability.masking import (
    covered,
    field_spans,
    is_private_name,
    mask_members,
    shown,
    without_personal_values,
    without_secrets,
)
from crossdock.observability.redaction import MASK


@pytest.mark.parametrize(
    "text",
    [
        "jane.doe+x@mail.example.com",
        "4242 4242 4242 4242",
        "4242424242424242",
        "378282246310005",
        "078-05-1120",
        "+1 (555) 010-9999",
        "+4915112345678",
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
    ],
)
def test_what_looks_like_personal_data_is_masked(text: str) -> None:
    assert without_personal_values(f"a {text}, b") == f"a {MASK}, b"


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00.000000+00:00",
        "2026-01-01 - 2026-12-31",
        "1767225600000",
        "4242424242424241",
        "0192f0c1-d2e3-7a4b-8c5d-6e7f80910111",
        "192.168.10.20",
        "DE89370400440532013001",
        "12.5 kg at 3 m",
    ],
)
def test_what_does_not_is_left(text: str) -> None:
    assert without_personal_values(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "email",
        "customerEmail",
        "e-mail",
        "phone_number",
        "firstName",
        "last_name",
        "SSN",
        "dateOfBirth",
        "dob",
        "street",
        "address_line1",
        "zip",
        "postalCode",
        "iban",
        "accountNumber",
        "card_number",
        "cvv",
        "taxId",
        "password",
        "api_key",
        "access_token",
        "client_secret",
    ],
)
def test_names_of_secrets_and_of_what_is_personal_are_private(name: str) -> None:
    assert is_private_name(name)


@pytest.mark.parametrize("name", ["id", "name", "status", "amount", "account_id", "filename", "created_at", "city"])
def test_other_names_are_not(name: str) -> None:
    assert not is_private_name(name)


def test_members_are_masked_at_every_depth_whatever_they_hold() -> None:
    value = {"a": [{"email": "x"}, [{"password": {"deep": 1}}], {"token": None}], "b": 1}
    mask_members(value, is_private_name)
    assert value == {"a": [{"email": MASK}, [{"password": MASK}], {"token": None}], "b": 1}


@pytest.mark.parametrize("written", ["s3cr/et+1", "s3cr%2Fet%2B1", "czNjci9ldCsx", "733363722f65742b31", "s3cr%2Fet+1"])
def test_a_known_secret_is_masked_however_it_is_written(written: str) -> None:
    secrets = ["s3cr/et+1", "s3cr/et 1"]
    assert without_secrets(f"a={written}&b=2", secrets) == f"a={MASK}&b=2"


def test_what_is_nested_in_what_is_hidden_is_not_read_over_and_over() -> None:
    text = '"token":[' * 2000
    spans = list(field_spans(text))
    assert len(spans) < 20
    assert shown(covered(text, spans)) == f'"token":{MASK}'


def test_what_follows_more_nesting_than_is_read_is_hidden() -> None:
    nested = '{"token":' * 100 + '"a secret"' + "}" * 100
    assert shown(covered(nested, field_spans(nested))) == f'{{"token":{MASK}'
    behind = nested + ' "password":"another secret"'
    assert "another secret" not in covered(behind, field_spans(behind))


def test_places_that_overlap_are_covered_once_and_nothing_moves() -> None:
    assert covered("0123456789", [(6, 8), (1, 4), (2, 3), (3, 5)]).replace("\ue000", "_") == "0____5__89"
