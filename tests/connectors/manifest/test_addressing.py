from typing import Any

import pytest

from crossdock.connectors.manifest import Manifest, parse_manifest
from crossdock.connectors.manifest.addressing import base_url, path_of, variables
from crossdock.gateway.interpolation import InterpolationError
from tests.connectors.manifest.test_loader import ACME

TOLD = ACME.replace(
    "  - kind: api_key\n    name: X-Acme-Key\n",
    """\
  - kind: oauth2
    oauth:
      authorize_url: https://login.acme.example/authorize
      token_url: https://login.acme.example/token
      answer: {values: {instance_url: {path: instance_url, hosts: ["*.acme.example"]}}}
""",
).replace("https://{{ config.region }}.acme.example/api", "{{ values.instance_url }}/v1")

WHOLE = ACME.replace("https://{{ config.region }}.acme.example/api", "{{ config.region }}")


def _url(manifest: Manifest, config: dict[str, Any], values: dict[str, str] | None = None) -> str | None:
    return base_url(manifest, "production", config=config, values=values)


def test_a_host_is_filled_in_and_must_be_one_of_the_providers() -> None:
    manifest = parse_manifest(ACME)
    assert _url(manifest, {"region": "eu"}) == "https://eu.acme.example/api"
    for region in ("evil.example/#", "eu@evil.example", "", "x/../.."):
        with pytest.raises(InterpolationError):
            _url(manifest, {"region": region})


def test_an_environment_that_is_not_there_has_no_address() -> None:
    assert base_url(parse_manifest(ACME), "sandbox", config={"region": "eu"}, values=None) is None


def test_what_the_provider_tells_later_is_waited_for() -> None:
    manifest = parse_manifest(TOLD)
    assert _url(manifest, {}) is None
    assert _url(manifest, {}, {"instance_url": "https://na7.acme.example"}) == "https://na7.acme.example/v1"
    with pytest.raises(InterpolationError):
        _url(manifest, {}, {"instance_url": "https://evil.example"})


def test_a_url_that_the_user_gives_whole_stays_as_it_is() -> None:
    assert _url(parse_manifest(WHOLE), {"region": "https://any.example/v2/"}) == "https://any.example/v2"


def test_the_schemas_defaults_count_for_what_is_left_out() -> None:
    manifest = parse_manifest(ACME.replace("{type: string}", "{type: string, default: us}"))
    assert _url(manifest, {}) == "https://us.acme.example/api"


def test_a_value_in_a_path_is_one_segment_and_a_path_of_its_own_stays_whole() -> None:
    known = variables(parse_manifest(ACME), config={"region": "a/b?c", "n": 3, "yes": True})
    assert path_of("/accounts/{{ config.region }}/x", known) == "/accounts/a%2Fb%3Fc/x"
    assert path_of("/n/{{ config.n }}/{{ config.yes }}", known) == "/n/3/true"
    assert path_of("{{ config.region }}", known) == "a/b?c"
