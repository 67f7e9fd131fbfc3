"""Which addresses may be reached."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.addresses import AddressPolicy, BlockReason

BLOCKED = {
    BlockReason.PRIVATE: "10.0.0.0 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fdff::1",
    BlockReason.LOOPBACK: "127.0.0.1 127.255.255.254 ::1",
    BlockReason.LINK_LOCAL: "169.254.0.1 169.254.255.255 fe80::1 febf::1 fec0::1 feff::1",
    BlockReason.METADATA: (
        "169.254.169.254 169.254.170.2 fd00:ec2::254 168.63.129.16 100.100.100.200 192.0.0.192 fd20:ce::254"
    ),
    BlockReason.CARRIER_NAT: "100.64.0.0 100.127.255.255",
    BlockReason.UNSPECIFIED: "0.0.0.0 0.1.2.3 ::",
    BlockReason.MULTICAST: "224.0.0.1 239.255.255.255 ff02::1",
    BlockReason.BROADCAST: "255.255.255.255",
    BlockReason.DOCUMENTATION: "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    BlockReason.BENCHMARKING: "198.18.0.1 198.19.255.255 2001:2::1",
    BlockReason.RESERVED: (
        "240.0.0.1 255.255.255.254 192.0.0.8 192.88.99.1 2001:20::1 100::1 5f00::1 4000::1 e000::1 2620:4f:8000::1"
    ),
    BlockReason.EMBEDDED_IPV4: (
        "::ffff:8.8.8.8 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::8.8.8.8 "
        "64:ff9b:1::a00:1 2002:7f00:1:: 2002:a9fe:a9fe:: 2001:0:4136:e378:8000:63bf:3fff:fdd2"
    ),
    BlockReason.SCOPED: "fe80::1%eth0 2606:4700::1111%1",
    BlockReason.NOT_AN_ADDRESS: "localhost 127.1 0177.0.0.1 2130706433 0x7f000001 1.2.3.4/32 [::1]",
}
OPEN = "8.8.8.8 1.1.1.1 172.15.255.255 172.32.0.0 100.63.255.255 100.128.0.0 198.17.255.255 198.20.0.0 2606:4700::1111"


@pytest.mark.parametrize(
    ("reason", "address"), [(reason, address) for reason, text in BLOCKED.items() for address in text.split()]
)
def test_an_address_outside_the_public_internet_is_blocked_with_its_reason(reason: BlockReason, address: str) -> None:
    assert AddressPolicy().judge(address) is reason


@pytest.mark.parametrize("address", OPEN.split())
def test_a_public_address_is_open(address: str) -> None:
    assert AddressPolicy().judge(address) is None


def test_an_address_may_be_given_parsed() -> None:
    assert AddressPolicy().judge(IPv4Address("10.0.0.1")) is BlockReason.PRIVATE
    assert AddressPolicy().judge(IPv6Address("::1")) is BlockReason.LOOPBACK


def test_private_networks_can_be_opened_but_metadata_stays_closed() -> None:
    policy = AddressPolicy(allow_private=True)
    assert [policy.judge(address) for address in ("10.0.0.1", "fd12::1")] == [None, None]
    assert policy.judge("fd00:ec2::254") is BlockReason.METADATA
    assert policy.judge("169.254.169.254") is BlockReason.METADATA
    assert policy.judge("127.0.0.1") is BlockReason.LOOPBACK
    assert policy.judge("100.64.0.1") is BlockReason.CARRIER_NAT


def test_loopback_can_be_opened_and_opens_no_other_form_of_it() -> None:
    policy = AddressPolicy(allow_loopback=True)
    assert [policy.judge(address) for address in ("127.0.0.1", "::1")] == [None, None]
    assert policy.judge("::ffff:127.0.0.1") is BlockReason.EMBEDDED_IPV4
    assert policy.judge("10.0.0.1") is BlockReason.PRIVATE


def test_a_range_can_be_opened() -> None:
    policy = AddressPolicy(allowed=["100.64.0.0/10", "169.254.169.254/32"])
    assert [policy.judge(address) for address in ("100.64.1.1", "169.254.169.254")] == [None, None]
    assert policy.judge("169.254.169.253") is BlockReason.LINK_LOCAL


def test_an_opened_range_of_embedded_addresses_is_judged_by_the_inner_address() -> None:
    policy = AddressPolicy(allowed=["64:ff9b::/96", "2002::/16", "2001::/32"])
    assert policy.judge("64:ff9b::8.8.8.8") is None
    assert policy.judge("64:ff9b::10.0.0.1") is BlockReason.PRIVATE
    assert policy.judge("64:ff9b::169.254.169.254") is BlockReason.METADATA
    assert policy.judge("2002:808:808::1") is None
    assert policy.judge("2002:7f00:1::1") is BlockReason.LOOPBACK
    assert policy.judge("2001:0:4136:e378:8000:63bf:f5ff:fffe") is BlockReason.PRIVATE


def test_a_denied_range_wins_over_everything() -> None:
    policy = AddressPolicy(allow_private=True, allowed=["10.0.0.0/8"], denied=["10.1.0.0/16", "8.8.8.0/24"])
    assert policy.judge("10.2.0.1") is None
    assert policy.judge("10.1.0.1") is BlockReason.DENIED
    assert policy.judge("8.8.8.8") is BlockReason.DENIED


def test_a_malformed_range_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        AddressPolicy(allowed=["10.0.0.1/8"])


@given(st.ip_addresses(v=4))
def test_whatever_python_calls_not_global_is_blocked_v4(address: IPv4Address) -> None:
    if not address.is_global:
        assert AddressPolicy().judge(address) is not None


@given(st.ip_addresses(v=6))
def test_whatever_python_calls_not_global_is_blocked_v6(address: IPv6Address) -> None:
    if not address.is_global:
        assert AddressPolicy().judge(address) is not None


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_of_an_ipv4_address_is_open(address: IPv4Address) -> None:
    value = int(address)
    for form in (0xFFFF << 32, 0, 0x0064_FF9B << 96, 0x0064_FF9B_0001 << 80):
        assert AddressPolicy().judge(IPv6Address(form | value)) is not None
    assert AddressPolicy().judge(IPv6Address(0x2002 << 112 | value << 80)) is not None
