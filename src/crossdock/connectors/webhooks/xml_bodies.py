"""XML as a JSON document, read safely: no DTD, no entities, bounded depth and size.

The rule, the same for every document:
- the document is an object with one member, the root element;
- an element's name and an attribute's name lose their namespace; an attribute's gets an `@` before it;
- an element with nothing but text is that text, exactly as written; with nothing but blanks, it is "";
- an element with xsi:nil="true" is null;
- any other element is an object of its attributes and child elements; text beside them is `#text`,
  without the blanks around it;
- child elements of one name become a list, in order; one alone does not, unless its name is among
  those that are always lists.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.mapping.json_values import JsonValue

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_TEXT = "#text"
_PATH_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlLimits:
    """How deep elements may nest, and how many elements and attributes there may be."""

    max_depth: int
    max_parts: int


@dataclass(slots=True)
class _Element:
    name: str
    nil: bool
    members: dict[str, JsonValue]
    text: list[str] = field(default_factory=list)


class _DocumentBuilder:
    """Receives the parser's events and builds the JSON document as they come."""

    def __init__(self, limits: XmlLimits, lists: AbstractSet[str]) -> None:
        self._limits = limits
        self._lists = lists
        self._parts = 0
        self._root = _Element("", nil=False, members={})
        self._open = [self._root]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._parts += 1 + len(attributes)
        if len(self._open) > self._limits.max_depth:
            raise InvalidBodyError(
                f"The body is nested deeper than {self._limits.max_depth} levels, in {self._path()}."
            )
        if self._parts > self._limits.max_parts:
            raise InvalidBodyError(f"The body has more than {self._limits.max_parts} elements and attributes.")
        nil = attributes.get(_NIL, "").strip() in ("true", "1")
        members: dict[str, JsonValue] = {
            f"@{_local(name)}": value for name, value in attributes.items() if name != _NIL
        }
        self._open.append(_Element(_local(tag), nil, members))

    def data(self, text: str) -> None:
        self._open[-1].text.append(text)

    def end(self, _tag: str) -> None:
        element = self._open.pop()
        self._attach(self._open[-1].members, element.name, _value(element))

    def close(self) -> None:
        """Nothing is left to do at the end of the document."""

    @property
    def document(self) -> JsonValue:
        return self._root.members

    def _attach(self, members: dict[str, JsonValue], name: str, value: JsonValue) -> None:
        if name not in members:
            members[name] = [value] if name in self._lists else value
            return
        known = members[name]
        # An element's own value is never a list, so a list here is one of siblings.
        if isinstance(known, list):
            known.append(value)
        else:
            members[name] = [known, value]

    def _path(self) -> str:
        return "/".join(element.name for element in self._open[1 : 1 + _PATH_SHOWN])


def _value(element: _Element) -> JsonValue:
    text = "".join(element.text)
    if not element.members:
        if element.nil:
            return None
        return text if text.strip() else ""
    if text.strip():
        element.members[_TEXT] = text.strip()
    return element.members


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def read_xml(text: str, *, limits: XmlLimits, lists: AbstractSet[str]) -> JsonValue:
    """Read XML by this module's rule; raises InvalidBodyError with line and column."""
    builder = _DocumentBuilder(limits, lists)
    parser = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(text)
        parser.close()
    except DefusedXmlException:
        raise InvalidBodyError("The body has a document type or entities, which are not allowed.") from None
    except ParseError as error:
        line, column = error.position
        what = str(error).partition(":")[0]
        raise InvalidBodyError(f"The body is not XML: {what} at line {line}, column {column + 1}.") from None
    except ValueError as error:
        raise InvalidBodyError(f"The body is not XML: {error}.") from None
    return builder.document
