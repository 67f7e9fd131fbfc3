import pytest

from crossdock.connectors.webhooks.bodies import BodyLimits, parse_body
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.mapping.json_values import JsonValue

NIL = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def _read(text: str | bytes, **limits: int) -> JsonValue:
    body = text if isinstance(text, bytes) else text.encode()
    return parse_body(body, "text/xml", limits=BodyLimits(**limits), xml_lists=frozenset({"Item"})).document


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("<a/>", {"a": ""}),
        ("<a> \n </a>", {"a": ""}),
        ("<a> x </a>", {"a": " x "}),
        ("<a>x &amp; &#233; <![CDATA[<y>]]></a>", {"a": "x & é <y>"}),
        ("<a><b>1</b><c>2</c></a>", {"a": {"b": "1", "c": "2"}}),
        ("<a>\n  <b>1</b>\n  <b/>\n  <b>3</b>\n</a>", {"a": {"b": ["1", "", "3"]}}),
        ("<a><Item>1</Item></a>", {"a": {"Item": ["1"]}}),
        ("<a><Item>1</Item><Item><x/></Item></a>", {"a": {"Item": ["1", {"x": ""}]}}),
        ('<a id="7"/>', {"a": {"@id": "7"}}),
        ('<a id="7">x</a>', {"a": {"@id": "7", "#text": "x"}}),
        ("<a>mixed <b>bold</b> text</a>", {"a": {"b": "bold", "#text": "mixed  text"}}),
        (f'<a {NIL}><b xsi:nil="true"/></a>', {"a": {"b": None}}),
        (f'<a {NIL}><b xsi:nil="false">x</b></a>', {"a": {"b": "x"}}),
        (f'<a {NIL} xsi:type="t">x</a>', {"a": {"@type": "t", "#text": "x"}}),
        ('<n:a xmlns:n="urn:n"><n:b>1</n:b><b>2</b></n:a>', {"a": {"b": ["1", "2"]}}),
        ("<!-- note --><a><?pi x?><!-- note -->y</a>", {"a": "y"}),
    ],
)
def test_the_rule_from_xml_to_json(text: str, document: JsonValue) -> None:
    assert _read(text) == document


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
        '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>',
        '<!DOCTYPE a [<!ENTITY f SYSTEM "http://127.0.0.1:1/x">]><a>&f;</a>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>',
        '<!DOCTYPE a PUBLIC "-//X//Y" "http://127.0.0.1:1/a.dtd"><a/>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:1/p"> %p;]><a/>',
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ATTLIST a b CDATA "default">]><a/>',
    ],
)
def test_document_types_and_entities_are_refused(text: str) -> None:
    with pytest.raises(InvalidBodyError, match="not allowed"):
        _read(text)


def test_a_billion_laughs_are_refused() -> None:
    lols = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    with pytest.raises(InvalidBodyError, match="not allowed"):
        _read(f'<!DOCTYPE l [<!ENTITY l0 "lol">{lols}]><l>&l9;</l>')


def test_a_quadratic_blowup_is_refused() -> None:
    with pytest.raises(InvalidBodyError, match="not allowed"):
        _read(f'<!DOCTYPE a [<!ENTITY b "{"x" * 50_000}">]><a>{"&b;" * 50_000}</a>')


@pytest.mark.parametrize(
    "declaration",
    [
        "<!ENTITY % x \"<!ENTITY y 'z'>\"> %x;",
        '<!ENTITY % file SYSTEM "file:///etc/passwd"><!ENTITY % all "<!ENTITY send SYSTEM \'http://127.0.0.1:1/%file;\'>">%all;',
        '<!NOTATION n SYSTEM "http://127.0.0.1:1/n"><!ENTITY u SYSTEM "http://127.0.0.1:1/u" NDATA n>',
    ],
)
def test_parameter_and_unparsed_entities_are_refused(declaration: str) -> None:
    with pytest.raises(InvalidBodyError, match="not allowed"):
        _read(f"<!DOCTYPE a [{declaration}]><a/>")


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_a_document_type_is_refused_in_whatever_charset_it_hides(charset: str) -> None:
    text = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    with pytest.raises(InvalidBodyError, match="not allowed"):
        parse_body(text.encode(charset), f"text/xml; charset={charset}")


def test_one_element_cannot_have_attributes_without_end() -> None:
    attributes = " ".join(f'a{n}="1"' for n in range(300_000))
    with pytest.raises(InvalidBodyError, match="more than 200000 elements and attributes"):
        parse_body(f"<a {attributes}/>".encode(), "text/xml")


def test_includes_are_only_elements() -> None:
    text = '<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd" parse="text"/></a>'
    assert _read(text) == {"a": {"include": {"@href": "file:///etc/passwd", "@parse": "text"}}}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<a>\n<b></a>", "mismatched tag at line 2"),
        ("<a>", "line 1"),
        ("<a/><b/>", "line 1"),
        ("<a>&unknown;</a>", "line 1"),
        ("no xml", "line 1, column 1"),
        ("<a b=1/>", "line 1"),
        ("<a>\x00</a>", "not"),
        ("<a>&#0;</a>", "line 1"),
        ("<a><b", "line 1"),
    ],
)
def test_what_is_not_xml_is_refused_with_its_place(text: str, what: str) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        _read(text)
    assert what in caught.value.message


@pytest.mark.parametrize("depth", [65, 1000, 200_000])
def test_nesting_is_bounded(depth: int) -> None:
    with pytest.raises(InvalidBodyError, match="deeper than 64 levels, in a/a"):
        _read("<a>" * depth + "</a>" * depth)
    assert _read("<a>" * 64 + "</a>" * 64) is not None


def test_the_number_of_elements_and_attributes_is_bounded() -> None:
    with pytest.raises(InvalidBodyError, match="more than 100"):
        _read("<a>" + "<b/>" * 100 + "</a>", max_parts=100)
    with pytest.raises(InvalidBodyError, match="more than 100"):
        _read("<a>" + '<b c="1"/>' * 50 + "</a>", max_parts=100)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode("latin-1"), "text/xml"),
        ('<?xml version="1.0" encoding="windows-1252"?><a>é</a>'.encode("cp1252"), "application/xml"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode("utf-16"), "text/xml"),
        ('<?xml version="1.0" encoding="utf-16le"?><a>é</a>'.encode("utf-16-le"), "text/xml; charset=utf-16le"),
        ("<a>é</a>".encode("utf-16-be"), "application/xml; charset=UTF-16BE"),
        ("<a>é</a>".encode("utf-16"), "text/xml"),
        ("<a>é</a>".encode("utf-8-sig"), "text/xml; charset=iso-8859-1"),
        ("<a>é</a>".encode("latin-1"), "text/xml; charset=iso-8859-1"),
        ('<?xml version="1.0" encoding="utf-8"?><a>é</a>'.encode("latin-1"), "text/xml; charset=iso-8859-1"),
        ('<?xml version="1.0" encoding="gb18030"?><a>é</a>'.encode("gb18030"), "text/xml"),
    ],
)
def test_byte_order_mark_content_type_and_declaration_decide_the_charset(body: bytes, content_type: str) -> None:
    assert parse_body(body, content_type).document == {"a": "é"}


@pytest.mark.parametrize(
    "body",
    [
        "<a>é</a>".encode("latin-1"),
        b"<a>\xc3\x28</a>",
        b'<?xml version="1.0" encoding="us-ascii"?><a>\xc3\xa9</a>',
        b'<?xml version="1.0" encoding="unicode_escape"?><a>\\x41</a>',
        b"\xff\xfe<\x00a",
    ],
)
def test_bytes_that_do_not_fit_their_charset_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidBodyError):
        parse_body(body, "text/xml")
