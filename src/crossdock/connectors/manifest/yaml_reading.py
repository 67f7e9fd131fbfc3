"""YAML as plain JSON values, each with the line it stands on.

Read by the core schema of YAML 1.2: `no` and `on` are text, not booleans. Whatever JSON cannot say, and
what makes a small file large (anchors and aliases), is refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from crossdock.connectors.manifest.errors import InvalidManifestError
from crossdock.kit.errors import Fault

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 50

_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_MAP, _SEQUENCE = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# YAML 1.2.2, section 10.3.2.
_CORE = (
    (_NULL, r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (_FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
)


class _Loader(yaml.CSafeLoader):
    """PyYAML's, with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own name, changed through its own method below


for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A file's value, and where its parts stand: lines (from 1) by the path to each part."""

    value: Any
    lines: Mapping[tuple[str | int, ...], int]

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """The line of the part at `path`, or of the nearest part around it that is there."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _FaultError(Exception):
    """What is wrong, and on which line."""

    def __init__(self, message: str, mark: Any) -> None:  # noqa: ANN401 - one of two classes of PyYAML's
        super().__init__(message)
        self.line = 1 if mark is None else mark.line + 1


def read_yaml(text: str, *, source: str) -> YamlDocument:
    """The document; raises InvalidManifestError for what is not one document of plain values."""
    try:
        return _read(text)
    except _FaultError as error:
        raise InvalidManifestError(source, ((error.line, Fault("", str(error))),)) from None


def _read(text: str) -> YamlDocument:
    if len(text) > MAX_CHARACTERS:
        raise _FaultError(f"A manifest has at most {MAX_CHARACTERS} characters; this one has {len(text)}.", None)
    try:
        _check_structure(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _FaultError(f"This is not YAML: {error.problem or error.context}.", error.problem_mark) from None
    except yaml.YAMLError as error:
        raise _FaultError(f"This is not YAML: {error}.".replace("\n", " "), None) from None
    if root is None:
        raise _FaultError("The file is empty.", None)
    reading = _Reading()
    return YamlDocument(reading.value(root, ()), reading.lines)


def _check_structure(text: str) -> None:
    """Refuse aliases and depth before anything is built: what builds is recursive, in C, and would take us with it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _FaultError("Anchors and aliases (&, *) are not read; write the value out.", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _FaultError(f"The file is nested deeper than {MAX_DEPTH} levels.", event.start_mark)


class _Reading:
    def __init__(self) -> None:
        self.lines: dict[tuple[str | int, ...], int] = {}

    def value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - any JSON
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._object(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self.value(item, (*path, place)) for place, item in enumerate(node.value)]
        return _scalar(node)

    def _object(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name is None or key_node.tag == _MERGE:
                raise _FaultError("A key must be text.", key_node.start_mark)
            if name in found:
                raise _FaultError(f"The key {name!r} is here twice.", key_node.start_mark)
            found[name] = self.value(value_node, (*path, name))
            # The line with the name on it is where people look.
            self.lines[*path, name] = key_node.start_mark.line + 1
        return found


def _scalar(node: yaml.Node) -> Any:  # noqa: ANN401 - any JSON
    text = str(node.value)
    match node.tag:
        case t if t == _STR:
            return text
        case t if t == _NULL:
            return None
        case t if t == _BOOL:
            return text.lower() == "true"
        case t if t == _INT:
            return _number(int, text, node)
        case t if t == _FLOAT:
            return _number(float, text, node)
    raise _FaultError(f"Values with the tag {node.tag} are not read.", node.start_mark)


def _number(kind: type[int] | type[float], text: str, node: yaml.Node) -> int | float:
    try:
        number = kind(text)
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass
    raise _FaultError("The number is too large.", node.start_mark)
