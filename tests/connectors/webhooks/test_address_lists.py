import pytest

from crossdock.connectors.webhooks import AddressList
from crossdock.connectors.webhooks.errors import AddressRefusedError, InvalidSettingsError


@pytest.mark.parametrize(
    ("entries", "address", "allowed"),
    [
        ([], "203.0.113.9", True),
        ([], "not an address", True),
        (["203.0.113.9"], "203.0.113.9", True),
        (["203.0.113.9"], "203.0.113.8", False),
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.77", True),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::1"], "2001:0DB8:0:0:0:0:0:1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:0a01:0203", True),
        (["10.0.0.0/8"], "::ffff:11.1.2.3", False),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "::ffff:10.1.2.3", True),
        (["::ffff:10.1.2.3"], "10.1.2.3", True),
        (["0.0.0.0/0"], "::1", False),
        (["::/0"], "10.1.2.3", False),
        ([" 10.0.0.0/8 "], "10.1.2.3", True),
        (["10.0.0.0/255.0.0.0"], "10.1.2.3", True),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "010.1.2.3", False),
        (["10.0.0.0/8"], "unix:/tmp/socket", False),
    ],
)
def test_an_address_is_in_the_list_or_not(entries: list[str], address: str, *, allowed: bool) -> None:
    accepted = AddressList.parse(entries)
    assert accepted.allows(address) is allowed
    if allowed:
        accepted.check(address)
    else:
        with pytest.raises(AddressRefusedError) as caught:
            accepted.check(address)
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("", "neither an address nor a block"),
        ("example.com", "neither an address nor a block"),
        ("10.0.0.0/33", "neither an address nor a block"),
        ("10.0.0.256", "neither an address nor a block"),
        ("10.0.0.1/8", "write 10.0.0.0/8 or the single address"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
    ],
)
def test_a_wrong_entry_is_named_by_its_place(entry: str, what: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        AddressList.parse(["192.0.2.1", entry, "::1"], pointer="/allowed_addresses")
    (fault,) = caught.value.faults
    assert fault.pointer == "/allowed_addresses/1"
    assert what in fault.message
