from dataclasses import dataclass
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks.bodies import BodyFormat, BodyLimits, ParsedBody, parse_body
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.mapping.json_values import JsonValue

BOUNDARY = "----x7Ma4YWxkTrZu0gW"
GIVEN = f"multipart/form-data; boundary={BOUNDARY}"
FILE = 'form-data; name="f"; filename="a.bin"'
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\%/'), max_size=12)


@dataclass(frozen=True)
class Part:
    """A part as a client sends it."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None

    def encoded(self) -> bytes:
        disposition = f'form-data; name="{self.name}"'
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
        return raw_part(self.content, disposition, *([f"Content-Type: {self.content_type}"] * bool(self.content_type)))


def raw_part(content: bytes, disposition: str, *headers: str) -> bytes:
    lines = "\r\n".join([f"Content-Disposition: {disposition}", *headers])
    return lines.encode() + b"\r\n\r\n" + content


def multipart(*parts: bytes | Part, boundary: str = BOUNDARY) -> bytes:
    start = f"--{boundary}\r\n".encode()
    encoded = [part.encoded() if isinstance(part, Part) else part for part in parts]
    return b"".join(start + part + b"\r\n" for part in encoded) + f"--{boundary}--\r\n".encode()


def read(body: bytes, content_type: str = GIVEN, **limits: int) -> ParsedBody:
    return parse_body(body, content_type, limits=BodyLimits(**limits))


def files_in(body: bytes, parsed: ParsedBody) -> list[bytes]:
    return [body[file.offset : file.offset + file.size_bytes] for file in parsed.files]


def test_fields_are_texts_and_files_are_told_of() -> None:
    body = multipart(
        Part("from", "Zoë <z@example.com>".encode()),
        Part("attachment", b"%PDF\r\n\0\xff", "scan 1.pdf", "application/pdf"),
        Part("tag", b"a"),
        Part("tag", b"b"),
        Part("note", b"text", "note.txt", "text/plain; charset=utf-8"),
        Part("empty", b""),
    )
    parsed = read(body)
    assert parsed.format is BodyFormat.MULTIPART
    assert parsed.document == {
        "from": "Zoë <z@example.com>",
        "attachment": {
            "filename": "scan 1.pdf",
            "content_type": "application/pdf",
            "size_bytes": 8,
            "sha256": sha256(b"%PDF\r\n\0\xff").hexdigest(),
            "index": 0,
        },
        "tag": ["a", "b"],
        "note": {
            "filename": "note.txt",
            "content_type": "text/plain",
            "size_bytes": 4,
            "sha256": sha256(b"text").hexdigest(),
            "index": 1,
        },
        "empty": "",
    }
    assert files_in(body, parsed) == [b"%PDF\r\n\0\xff", b"text"]


@given(
    st.lists(
        st.builds(
            Part,
            name=TEXTS,
            content=st.binary(max_size=40) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r\n--", b"--\r\n\r\n--", b"\r"]),
            filename=TEXTS,
            content_type=st.sampled_from([None, "image/png"]),
        ),
        max_size=6,
    )
)
def test_each_file_is_the_range_that_was_sent(parts: list[Part]) -> None:
    body = multipart(*parts)
    parsed = read(body)
    assert files_in(body, parsed) == [part.content for part in parts]
    assert [file.filename for file in parsed.files] == [part.filename for part in parts]
    assert [file.shown["sha256"] for file in parsed.files] == [sha256(part.content).hexdigest() for part in parts]


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6))
def test_any_texts_come_back(fields: list[tuple[str, str]]) -> None:
    expected: dict[str, list[JsonValue]] = {}
    for name, value in fields:
        expected.setdefault(name, []).append(value)
    document = read(multipart(*(Part(name, value.encode()) for name, value in fields))).document
    assert document == {name: values if len(values) > 1 else values[0] for name, values in expected.items()}


@given(st.data())
def test_a_body_that_breaks_off_is_refused_wherever_it_does(data: st.DataObject) -> None:
    body = multipart(Part("a", b"1"), Part("f", b"content", "f.bin"))
    at = data.draw(st.integers(1, len(body) - len("\r\n") - 1))
    with pytest.raises(InvalidBodyError, match="cannot be read"):
        read(body[:at])


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused_by_name(noise: bytes) -> None:
    for body in (noise, multipart(noise), multipart(Part("a", noise))):
        try:
            read(body)
        except InvalidBodyError:
            continue


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="a\r\nb"',
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="ends in a blank "',
        'multipart/form-data; boundary="é"',
    ],
)
def test_a_boundary_that_cannot_be_one_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidBodyError, match="boundary"):
        read(multipart(Part("a", b"1")), content_type)


@pytest.mark.parametrize("boundary", ["a", "x" * 70, "a b", "=_?:/,.+'()"])
def test_every_boundary_that_is_allowed_is_taken(boundary: str) -> None:
    body = multipart(Part("a", b"1"), boundary=boundary)
    assert read(body, f'multipart/form-data; charset=utf-8; boundary="{boundary}"').document == {"a": "1"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (multipart(raw_part(b"1", "form-data")), "Missing name"),
        (multipart(raw_part(b"1", 'attachment; name="a"')), "Wrong type"),
        (multipart(b"Content-Type: text/plain\r\n\r\n1"), "Missing Content-Disposition"),
        (multipart(b"\r\n1"), "part 1"),
        (multipart(raw_part(b"1", FILE, "Content-Type: multipart/mixed; boundary=y")), "part 1: it is a multipart"),
        (multipart(raw_part(b"1", FILE, "Content-Transfer-Encoding: base64")), "'base64' is not read"),
        (multipart(raw_part(b"1", FILE, "Content-Disposition: form-data; name=b")), "twice"),
        (multipart(raw_part(b"1", FILE, "Content-Type: a/b", "Content-Type: c/d")), "twice"),
        (multipart(raw_part(b"1", 'form-data; name="f"; filename="a%0D%0Ab"')), "control characters"),
        (multipart(raw_part(b"1", 'form-data; name="a\0b"')), "control characters"),
        (multipart(raw_part(b"1", FILE, "X-Long: " + "x" * 5_000)), "header length"),
        (multipart(raw_part(b"1", FILE, *(f"X-{n}: 1" for n in range(9)))), "header count"),
        (multipart(raw_part(b"1", FILE, "Content-Length: 2")), "Content-Length"),
        (multipart(raw_part(b"1", FILE, "X-Folded: a\r\n b")), "continuation"),
        (multipart(Part("a", b"1"), raw_part(b"1", 'form-data; name="b')), "part 2"),
        (multipart(Part("a", b"1")).replace(b"\r\n", b"\n"), "line break"),
        (multipart(Part("a", b"1")) + b"more", "behind its end"),
        (multipart() + b"more", "behind its end"),
        (multipart(Part("a", b"1"), boundary="other"), "oundary not found"),
        (b"\xff\xfe" + multipart(Part("a", b"1")), "in front of first boundary"),
        (multipart(b'Content-Disposition: form-data; name="\xff"\r\n\r\n1'), "decode"),
        (b"x", "Unexpected end"),
    ],
)
def test_what_is_not_multipart_form_data_is_refused_with_the_reason(body: bytes, what: str) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        read(body)
    assert what in caught.value.message


def test_a_form_without_any_part_is_empty() -> None:
    assert read(multipart()).document == {}


def test_files_are_bounded_in_number_and_size() -> None:
    body = multipart(*(Part("f", b"12345", "f") for _ in range(3)))
    assert len(read(body, max_files=3, max_file_bytes=5).files) == 3
    with pytest.raises(InvalidBodyError, match="more than 2 files"):
        read(body, max_files=2)
    with pytest.raises(InvalidBodyError, match="segment size exceeded"):
        read(body, max_file_bytes=4)


def test_parts_are_bounded_in_number() -> None:
    with pytest.raises(InvalidBodyError, match="segment count exceeded"):
        read(multipart(*[Part("a", b"")] * 1_001))


def test_a_part_of_a_binary_type_is_a_file_without_a_name() -> None:
    body = multipart(
        raw_part(b"\xff", 'form-data; name="image"', "Content-Type: image/png"),
        raw_part(b'{"a": 1}', 'form-data; name="json"', "Content-Type: application/json"),
        raw_part(b"<a/>", 'form-data; name="xml"', "Content-Type: text/xml"),
    )
    parsed = read(body)
    assert files_in(body, parsed) == [b"\xff"]
    assert parsed.files[0].filename is None
    assert isinstance(parsed.document, dict)
    assert (parsed.document["json"], parsed.document["xml"]) == ('{"a": 1}', "<a/>")


@pytest.mark.parametrize("sent", ["C:\\\\secret\\\\a.txt", "/etc/a.txt", "../../a.txt", "a.txt"])
def test_a_filename_loses_its_path(sent: str) -> None:
    parsed = read(multipart(raw_part(b"1", f'form-data; name="f"; filename="{sent}"')))
    assert parsed.files[0].filename == "a.txt"


@pytest.mark.parametrize(
    ("parts", "content_type"),
    [
        ([raw_part("é".encode("cp1252"), 'form-data; name="a"', "Content-Type: text/plain; charset=cp1252")], GIVEN),
        ([raw_part("é".encode("latin-1"), 'form-data; name="a"')], f"{GIVEN}; charset=iso-8859-1"),
        ([Part("_charset_", b"iso-8859-1"), Part("a", "é".encode("latin-1"))], GIVEN),
        ([raw_part("é".encode("utf-16"), 'form-data; name="a"')], GIVEN),
        ([Part("a", "é".encode())], GIVEN),
    ],
)
def test_the_charset_of_a_field_is_honoured(parts: list[bytes | Part], content_type: str) -> None:
    document = read(multipart(*parts), content_type).document
    assert isinstance(document, dict)
    assert document["a"] == "é"


@pytest.mark.parametrize(
    "part",
    [
        raw_part(b"\xff", 'form-data; name="a/b"'),
        raw_part(b"1", 'form-data; name="a/b"', "Content-Type: text/plain; charset=unicode_escape"),
    ],
)
def test_a_field_that_is_not_text_is_named(part: bytes) -> None:
    with pytest.raises(InvalidBodyError, match="'a/b'") as caught:
        read(multipart(part))
    assert caught.value.faults[0].pointer == "/a~1b"
