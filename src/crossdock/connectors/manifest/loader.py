"""From a file to a manifest; every fault with the line it stands on."""

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crossdock.connectors.manifest.errors import InvalidManifestError
from crossdock.connectors.manifest.model import Manifest
from crossdock.connectors.manifest.yaml_reading import YamlDocument, read_yaml
from crossdock.kit.errors import Fault
from crossdock.kit.json_pointer import pointer_to
from crossdock.kit.wording import in_words

MOST_FAULTS = 20

Steps = tuple[str | int, ...]


def load_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises InvalidManifestError, and OSError for a file that cannot be read."""
    return parse_manifest(path.read_text(encoding="utf-8"), source=f"{path.parent.name}/{path.name}")


def parse_manifest(text: str, *, source: str = "manifest") -> Manifest:
    """The manifest in YAML (or JSON, which is YAML). Raises InvalidManifestError, which names `source` and lines."""
    document = read_yaml(text, source=source)
    try:
        return Manifest.model_validate(document.value)
    except ValidationError as error:
        found = (_placed(document, fault) for fault in _first_causes(error)[:MOST_FAULTS])
        raise InvalidManifestError(source, tuple(sorted(found, key=lambda one: one[0]))) from None


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of manifests, for editors and others' tools."""
    schema = Manifest.model_json_schema(mode="validation")
    _sort_sets(schema, {name for part in (schema, *schema["$defs"].values()) for name in _sets_in(part)})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Crossdock manifest"}


def _sets_in(part: Mapping[str, Any]) -> set[str]:
    """The properties whose values are sets."""
    return {name for name, field in part.get("properties", {}).items() if field.get("uniqueItems")}


def _sort_sets(node: Any, names: set[str]) -> None:  # noqa: ANN401 - any JSON
    """Put sets that stand as defaults into an order: their own is another one in every process."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, list) and (name in names or (name == "default" and node.get("uniqueItems"))):
            value.sort()
        elif isinstance(value, dict | list):
            _sort_sets(value, names)


def _first_causes(error: ValidationError) -> list[Mapping[str, Any]]:
    """The faults, without the complaint that a list lost the items which are faulty themselves."""
    faults: list[Mapping[str, Any]] = [*error.errors()]
    places = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in places]


def _placed(document: YamlDocument, fault: Mapping[str, Any]) -> tuple[int, Fault]:
    path = _path_in(document, fault["loc"])
    return document.line_of(path), Fault(pointer_to(path), _message(path, fault))


def _path_in(document: YamlDocument, location: Steps) -> Steps:
    """Where a fault stands in the file: pydantic's location also names the kinds that it chose between."""
    path: Steps = ()
    for place, step in enumerate(location, start=1):
        if (*path, step) in document.lines or place == len(location):
            path = (*path, step)
    return path


def _message(path: Steps, fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _words(), n=1)
        return "is no word of a manifest here" + (f"; did you mean {near[0]!r}?" if near else ".")
    return in_words(fault)


@cache
def _words() -> list[str]:
    schema = manifest_schema()
    parts = (schema, *schema["$defs"].values())
    return sorted({name for part in parts for name in part.get("properties", {})})
