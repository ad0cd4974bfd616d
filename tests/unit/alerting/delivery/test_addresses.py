"""Hostile inputs 18, 19 and 20: where calls may go, as far as it can be said of addresses alone."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.delivery.addresses import (
    AddressRefusedError,
    allowed,
    check_answers,
    check_host,
    check_port,
    check_url,
    parse_url,
)

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:4700::1111", "2a00:1450:4001:80b::200e")
LOCAL = ("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12:3456::1")
NEVER = (
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "2001:0:7f00:1::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "ff02::1",
    "100::1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_allowed(text: str) -> None:
    assert allowed(ip_address(text), local=False)
    assert allowed(ip_address(text), local=True)


@pytest.mark.parametrize("text", LOCAL)
def test_local_addresses_are_for_local_receivers(text: str) -> None:
    assert not allowed(ip_address(text), local=False)
    assert allowed(ip_address(text), local=True)


@pytest.mark.parametrize("text", NEVER)
def test_metadata_and_what_hides_an_address_are_never_allowed(text: str) -> None:
    assert not allowed(ip_address(text), local=False)
    assert not allowed(ip_address(text), local=True)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_address_that_is_not_global_is_allowed(address: IPv4Address) -> None:
    if allowed(address, local=False):
        assert address.is_global
        assert not address.is_multicast


def test_one_private_answer_spoils_all() -> None:
    with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.1"):
        check_answers([ip_address("93.184.216.34"), ip_address("10.0.0.1")], local=False)
    with pytest.raises(AddressRefusedError, match="no address"):
        check_answers([], local=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",
        "https://hooks.example.com:8443/x?y=z",
        "https://hooks.example.com:9000",
        "https://xn--bcher-kva.example/",
        "https://93.184.216.34/x",
        "https://[2606:4700::1111]/x",
    ],
)
def test_good_addresses_pass(url: str) -> None:
    check_url(url, local=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "http://hooks.example.com/x",
        "ftp://hooks.example.com/x",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "javascript:alert(1)",
        "https://user@hooks.example.com/x",
        "https://user:password@hooks.example.com/x",
        "https://hooks.example.com@127.0.0.1/x",
        "https://hooks.example.com:22/x",
        "https://hooks.example.com:25/x",
        "https://hooks.example.com:0/x",
        "https://hooks.example.com:99999/x",
        "https://hooks.example.com/x#fragment",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX: y",
        "https://hooks.example.com/\x00",
        "https://bücher.example/",
        "https://１２７.0.0.1/",
        "https://localhost/x",
        "https://LOCALHOST./x",
        "https://a.localhost/x",
        "https://metadata.google.internal/computeMetadata/v1/",
        "https://printer.local/",
        "https://intranet/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://8.8.2056/",
        "https://1.2.3.4.5/",
        "https://0x/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[fe80::1%25eth0]/",
        "https://[v1.x]/",
        "https://[::1/",
        "https:///x",
        "https://a..example.com/",
        "https://-a.example.com/",
        "https://169.254.169.254/latest/meta-data/",
    ],
)
def test_bad_addresses_are_refused_at_save(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, local=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/",
        "http://user@127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:127.0.0.1]/",
        "unix:///run/x.sock",
        "http://127.0.0.1:0/",
    ],
)
def test_local_allows_no_more_than_local_addresses(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, local=True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9099/x", "http://receiver:80/", "https://10.0.0.7/x", "http://[::1]:1/"]
)
def test_local_receivers_pass_with_local(url: str) -> None:
    check_url(url, local=True)
    with pytest.raises(AddressRefusedError):
        check_url(url, local=False)


def test_an_address_taken_apart() -> None:
    target = parse_url("https://hooks.example.com.:8443/a/b?c=d", local=False)
    assert (target.tls, target.host, target.port, target.path) == (True, "hooks.example.com", 8443, "/a/b?c=d")


def test_refusals_do_not_quote_what_may_be_secret() -> None:
    with pytest.raises(AddressRefusedError) as refusal:
        check_url("https://user:hunter2@hooks.example.com/T00/B00/secret", local=False)
    assert "hunter2" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_mail_servers_are_held_to_the_same() -> None:
    check_host("smtp.example.com", local=False)
    check_port(587, local=False, known=frozenset({587}))
    for host in ("localhost", "127.0.0.1", "0x7f.1", "a b", "x\r\ny", ""):
        with pytest.raises(AddressRefusedError):
            check_host(host, local=False)
    with pytest.raises(AddressRefusedError):
        check_port(22, local=False, known=frozenset({587}))
