"""Filling values into texts and URLs."""

import pytest

from crossdock.gateway.interpolation import InterpolationError, fill, fill_url, has_templated_host, names_in

VARIABLES = {
    "config.dc": "eu",
    "config.path": "a/../b?c#d",
    "config.dots": "..",
    "config.host": "evil.example/",
    "config.user": "x@evil.example",
    "config.port": "a:1",
    "config.empty": "",
    "values.instance_url": "https://na1.salesforce.com",
    "values.elsewhere": "https://evil.example",
    "values.plain": "http://na1.salesforce.com",
    "values.tricky": "https://na1.salesforce.com@evil.example",
    "values.deep": "https://na1.salesforce.com/x",
}


def test_values_stand_where_they_are_named() -> None:
    assert fill("a {{ config.dc }} b {{config.dc}}", VARIABLES) == "a eu b eu"
    assert names_in("{{ config.dc }}/{{values.x-y}}/{{ 5 }}") == {"config.dc", "values.x-y"}


@pytest.mark.parametrize("template", ["{{ config.none }}", "{{ config.empty }}"])
def test_what_is_not_known_is_named(template: str) -> None:
    with pytest.raises(InterpolationError, match=r"config\.(none|empty)"):
        fill(template, VARIABLES)


@pytest.mark.parametrize(
    ("template", "hosts", "url"),
    [
        ("https://a.example/x", (), "https://a.example/x"),
        ("https://login.{{ config.dc }}.example/x", ("*.example",), "https://login.eu.example/x"),
        ("https://a.example/{{ config.path }}", (), "https://a.example/a%2F..%2Fb%3Fc%23d"),
        ("https://a.example/{{ config.dots }}/x", (), "https://a.example/%2E%2E/x"),
        ("https://a.example/?q={{ config.path }}", (), "https://a.example/?q=a%2F..%2Fb%3Fc%23d"),
        ("{{ values.instance_url }}/token", ("*.salesforce.com",), "https://na1.salesforce.com/token"),
        ("http://127.0.0.1:81/x", (), "http://127.0.0.1:81/x"),
    ],
)
def test_a_url_is_filled(template: str, hosts: tuple[str, ...], url: str) -> None:
    assert fill_url(template, VARIABLES, hosts=hosts) == url


@pytest.mark.parametrize(
    ("template", "hosts"),
    [
        ("https://{{ config.host }}", ("*.example",)),
        ("https://{{ config.user }}/x", ("*.example",)),
        ("https://{{ config.port }}/x", ("*.example",)),
        ("https://login.{{ config.dc }}.example/x", ()),
        ("https://login.{{ config.dc }}.example/x", ("login.us.example",)),
        ("{{ values.instance_url }}/token", ()),
        ("{{ values.elsewhere }}/token", ("*.salesforce.com",)),
        ("{{ values.elsewhere }}.salesforce.com/token", ("*.salesforce.com", "x.example")),
        ("{{ values.plain }}/token", ("*.salesforce.com",)),
        ("{{ values.tricky }}/token", ("*.salesforce.com",)),
        ("{{ values.deep }}/token", ("*.salesforce.com",)),
        ("https://salesforce.com/", ("*.salesforce.com",)),
        ("https://notsalesforce.com/", ("*.salesforce.com", "salesforce.com")),
        ("https://me:secret@a.example/", ()),
        ("http://a.example/", ()),
        ("ftp://a.example/", ()),
        ("https://evil.example\\.a.example/", ("*.a.example",)),
        ("https://evil.example/\\x", ()),
        ("https://a.exa\nmple/", ()),
        ("https://a.example/ x", ()),
        ("https://a.example/#x", ()),
        ("https://a.example:x/", ()),
        ("https://[::1/", ()),
        ("https://a.\u0435xample/", ()),
        ("https://", ()),
        ("/x", ()),
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(template: str, hosts: tuple[str, ...]) -> None:
    with pytest.raises(InterpolationError):
        fill_url(template, VARIABLES, hosts=hosts)


def test_a_host_that_is_filled_in_is_noticed() -> None:
    assert has_templated_host("https://{{ config.dc }}.example/")
    assert has_templated_host("{{ values.instance_url }}/x")
    assert not has_templated_host("https://a.example/{{ config.dc }}")
