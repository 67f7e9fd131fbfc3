import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from crossdock.connectors.manifest import (
    InvalidManifestError,
    ProviderLibrary,
    ProviderStatus,
    load_manifest,
    manifest_schema,
    parse_manifest,
)
from crossdock.kit.errors import NotFoundError

ACME = """\
manifest: 1
code: acme
name: Acme
category: crm
spec:
  type: object
  properties:
    region: {type: string}
base_url:
  production: "https://{{ config.region }}.acme.example/api"
hosts: ["*.acme.example"]
auth:
  - kind: api_key
    name: X-Acme-Key
rate_limit:
  - {calls: 100, seconds: 10}
check:
  path: /me
"""


def faults(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidManifestError) as refused:
        parse_manifest(text, source="acme/manifest.yaml")
    pairs = zip(refused.value.lines, refused.value.faults, strict=True)
    return [(line, fault.pointer, fault.message) for line, fault in pairs]


def test_a_manifest_is_read_with_its_defaults() -> None:
    manifest = parse_manifest(ACME)
    assert (manifest.code, manifest.version, manifest.status) == ("acme", "1.0.0", ProviderStatus.ACTIVE)
    assert list(manifest.methods) == ["api_key"]
    assert manifest.base_url.environments() == ("production",)
    assert not manifest.exclusive


def test_every_fault_names_the_file_the_line_and_the_place() -> None:
    text = ACME.replace("calls: 100", "calls: 0").replace("category: crm", "category: cars")
    with pytest.raises(InvalidManifestError) as refused:
        parse_manifest(text, source="acme/manifest.yaml")
    first, second = refused.value.message.splitlines()
    assert first.startswith("acme/manifest.yaml:4: /category: ")
    assert second.startswith("acme/manifest.yaml:16: /rate_limit/0/calls: ")


def test_a_word_that_is_none_is_told_with_the_one_that_was_meant() -> None:
    assert faults(ACME.replace("rate_limit:", "rate_limits:"))[0] == (
        15,
        "/rate_limits",
        "is no word of a manifest here; did you mean 'rate_limit'?",
    )


def test_a_fault_in_a_way_in_is_placed_in_the_file_and_not_in_our_classes() -> None:
    line, pointer, _ = faults(ACME.replace("name: X-Acme-Key", "place: cookie"))[0]
    assert (line, pointer) == (14, "/auth/0/place")


def test_what_is_missing_is_told_at_what_lacks_it() -> None:
    assert faults(ACME.replace("check:\n  path: /me\n", "")) == [(1, "/check", "is missing")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("{{ config.region }}.acme", "{{ config.zone }}.acme"), "config.zone"),
        (('hosts: ["*.acme.example"]\n', ""), "`hosts`"),
        (("https://{{ config.region }}.acme.example/api", "ftp://acme.example"), "https://"),
        (("{type: string}", "{type: strange}"), "JSON Schema"),
        (("    region:", "    api_key:"), "secret"),
        (("category: crm", "category: email\nper_owner: true"), "per_owner"),
        (("category: crm", "category: sms\nmany: true"), "many"),
        (("    name: X-Acme-Key", "  - kind: api_key"), "same id"),
        (("path: /me", "path: /me\n  expect: '['"), "expression"),
        (("path: /me", "path: '/{{ config.nothing }}'"), "config.nothing"),
    ],
)
def test_what_cannot_work_is_refused_before_anyone_uses_it(change: tuple[str, str], said: str) -> None:
    assert said in faults(ACME.replace(*change))[0][2]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("a: [1\nb: 2", 2, "not YAML"),
        ("a: 1\na: 2", 2, "twice"),
        ("a: &x [1]\nb: *x", 1, "aliases"),
        ("1: a\n? [x]\n: b", 2, "key must be text"),
        ("a: !!python/object:os.system {}", 1, "not read"),
        ("a: 1\nb: " + "9" * 400, 2, "too large"),
        ("[" * 100_000 + "]" * 100_000, 1, "nested"),
        ("a: " + "x" * 300_000, 1, "at most"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
    ],
)
def test_yaml_that_json_could_not_say_is_refused_with_its_line(text: str, line: int, said: str) -> None:
    found_line, _, message = faults(text)[0]
    assert said in message
    assert found_line == line


def test_no_and_on_are_text_as_in_yaml_1_2() -> None:
    manifest = parse_manifest(ACME.replace("name: Acme", "name: no").replace("/me", "on"))
    assert (manifest.name, manifest.check.path) == ("no", "on")


def test_json_is_a_manifest_too() -> None:
    manifest = parse_manifest(ACME)
    again = parse_manifest(json.dumps(manifest.model_dump(mode="json", exclude_none=True)))
    assert again == manifest


def _providers() -> list[Path]:
    return sorted(Path("src/crossdock/connectors/providers").glob("*/manifest*.yaml"))


@pytest.mark.parametrize("path", _providers(), ids=lambda path: path.parent.name)
def test_every_manifest_that_we_ship_fits_the_published_schema(path: Path) -> None:
    manifest = load_manifest(path)
    jsonschema_rs.validate(manifest_schema(), manifest.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("change", [{"code": "Ac me"}, {"category": "cars"}, {"auth": []}, {"more": 1}])
def test_the_published_schema_refuses_what_the_loader_refuses(change: dict[str, Any]) -> None:
    plain = parse_manifest(ACME).model_dump(mode="json", exclude_none=True) | change
    assert not jsonschema_rs.validator_for(manifest_schema()).is_valid(plain)
    with pytest.raises(InvalidManifestError):
        parse_manifest(json.dumps(plain))


def test_versions_live_side_by_side_and_the_newest_is_the_default(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    for name, version in (("manifest.yaml", "10.0.0"), ("manifest-9.yaml", "9.1.0"), ("manifest-2.yaml", "2.0.0")):
        (folder / name).write_text(ACME + f"version: {version}\n")
    library = ProviderLibrary([tmp_path])
    assert [one.version for one in library.versions("acme")] == ["10.0.0", "9.1.0", "2.0.0"]
    assert [one.version for one in library.all()] == ["10.0.0"]
    assert library.find("acme", "9.1.0").version == "9.1.0"
    with pytest.raises(NotFoundError, match=r"no version '1\.0\.0'; it has 10\.0\.0"):
        library.find("acme", "1.0.0")
    with pytest.raises(NotFoundError, match="no provider 'nobody'"):
        library.find("nobody")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("acne/manifest.yaml", ACME, "the folder is 'acne'"),
        ("acme/manifest-again.yaml", ACME, "in another file"),
    ],
)
def test_a_manifest_in_the_wrong_place_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    for path in ("acme/manifest.yaml", name):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(InvalidManifestError, match=said):
        ProviderLibrary([tmp_path]).all()


def test_the_published_schema_is_the_same_in_every_process() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-c", "from crossdock.connectors import manifest; print(manifest.manifest_schema())"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
