"""Masking in texts of any kind: secrets that are known, fields named like secrets or persons, what looks like them."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from crossdock.observability.redaction import MASK, is_secret_name

# Shorter ones would be found everywhere.
_LEAST_SECRET = 4
_FILLER = "\ue000"

_JSON_NAME = re.compile(r'(\\{0,8})"([^"\\]{1,200})\1"\s*:\s*')
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)')
_JSON_PLAIN = re.compile(r"[^,\]}\s\"]*")
_JSON_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_XML_FIELD = re.compile(r"<(?:[\w.-]+:)?([\w.-]{1,200})[^<>]{0,500}>([^<]*)")
_FORM_FIELD = re.compile(r"(?:^|&)([^&=]{1,300})=([^&]*)")
_PART = re.compile(r'name="([^"]{1,200})"[^\n]{0,500}\n(?:[^\r\n]{1,500}\r?\n){0,8}\r?\n(.*?)(?=\r?\n--|\Z)', re.DOTALL)
_QUERY_FIELD = re.compile(r"(?<=[?&;])([^?&;=]{1,300})=([^?&;]*)")

# Lists and objects to be hidden may lie in each other; of a text that is read more often than so, the rest is hidden.
_MOST_READINGS = 8

# Names of fields in camelCase, snake_case and the rest, read without their separators.
_SEPARATORS = re.compile(r"[-_. ]")
_PERSONAL_NAME = re.compile(
    r"e?mail(address)?$|phone|mobile|^(tel|fax|cell)(no|number)?$|(first|last|given|family|middle|maiden|full|sur)name$"
    r"|^(sur|cardholder|holder|contact|customer|patient|employee|recipient|signer)name$|nameoncard|^ssn|ssn$"
    r"|socialsecurity|nationalid|taxid|^(tin|ein|itin|vatid)$|passport|driver'?slicen[cs]e|licen[cs]enumber"
    r"|dateofbirth|birth(date|day)|^dob$|^gender$|street|address(line)?\d?$|^(zip|postal|post)code?$|^zip$"
    r"|iban|^bic$|swift|account(no|number)$|accountnumber|routing(no|number)|sortcode|cardnumber|^pan$|^cv[vc]\d?$"
    r"|^(lat|lng|latitude|longitude)$|ipaddress"
)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")
_PHONE = re.compile(r"(?<![\w+])\+[1-9]\d{0,2}[ .()-]{0,2}\d(?:[ .()-]{0,2}\d){6,11}(?!\d)")
# Digits with single spaces or hyphens between: what they are is looked at one by one, since dates are among them.
_NUMBER = re.compile(r"\d(?:[ -]?\d){8,23}")
_SOCIAL_SECURITY = re.compile(r"\d{3}-\d{2}-\d{4}")
_CARD = re.compile(r"[3-6]\d{3}[\d -]+")
_IBAN_START = re.compile(r"[A-Z][A-Z]\d\d[ A-Z0-9]")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_SOCIAL_SECURITY_CHARACTERS = 11
_CARD_DIGITS = range(13, 20)
_MOST_KEPT_NAMES = 8192


@lru_cache(maxsize=_MOST_KEPT_NAMES)  # the same few names come again in every body
def is_private_name(name: str) -> bool:
    """Whether a field or header of this name holds a secret, or something about a person."""
    return is_secret_name(name) or _PERSONAL_NAME.search(_SEPARATORS.sub("", name.lower())) is not None


def without_personal_values(text: str) -> str:
    """The text without e-mail addresses, card and account numbers, social security and telephone numbers."""
    if "@" in text:
        text = _EMAIL.sub(MASK, text)
    if "+" in text:
        text = _PHONE.sub(MASK, text)
    text = _NUMBER.sub(lambda found: MASK if _is_personal_number(found[0]) else found[0], text)
    if _IBAN_START.search(text):
        text = _IBAN.sub(lambda found: MASK if _is_iban(found[0]) else found[0], text)
    return text


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, however they are written in it."""
    spans = list(secret_spans(text, secrets))
    return shown(covered(text, spans)) if spans else text


def covered(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text, as long as before, with something else in these places; `shown` puts masks there."""
    parts, at = [], 0
    for begin, end in sorted(spans):
        if end > at:
            parts += [text[at:begin], _FILLER * (end - max(begin, at))]
            at = end
    return "".join([*parts, text[at:]])


def shown(text: str) -> str:
    """A covered text with masks in place."""
    return re.sub(f"{_FILLER}+", MASK, text) if _FILLER in text else text


def masked_query(url: str, hides: Callable[[str], bool] = is_secret_name) -> str:
    """The URL without the values of the query whose names are to be hidden."""
    return _QUERY_FIELD.sub(lambda field: f"{field[1]}={MASK}" if hides(unquote_plus(field[1])) else field[0], url)


def mask_members(value: Any, hides: Callable[[str], bool]) -> None:  # noqa: ANN401 # any JSON value
    """Put masks in place of the members of a JSON value whose names are to be hidden."""
    if type(value) is dict:
        for key, inner in value.items():
            if hides(key):
                value[key] = MASK if inner is not None else None
            elif type(inner) is dict or type(inner) is list:
                mask_members(inner, hides)
    elif type(value) is list:
        for inner in value:
            if type(inner) is dict or type(inner) is list:
                mask_members(inner, hides)


def secret_spans(text: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where secrets stand."""
    for secret in secrets:
        for written in _written(secret.strip()):
            if written in text:
                for found in re.finditer(re.escape(written), text):
                    yield found.span()


def field_spans(text: str, hides: Callable[[str], bool] = is_secret_name) -> Iterator[tuple[int, int]]:
    """Where the values of fields stand whose names are to be hidden, in whatever the text is."""
    yield from _json_spans(text, hides)
    for pattern in (_XML_FIELD, _PART):
        yield from (field.span(2) for field in pattern.finditer(text) if hides(field[1]))
    for field in _FORM_FIELD.finditer(text):
        value = unquote_plus(field[2])
        # As GitHub's payload: JSON in a form.
        hides_more = any(hides(inner[2]) for inner in _JSON_NAME.finditer(value))
        if hides(unquote_plus(field[1])) or (hides_more and "%" in field[2]):
            yield field.span(2)


def storable(text: str) -> str:
    """Text as PostgreSQL takes it: without NULs and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=1024)  # an integration's secrets are looked for in every call's record
def _written(secret: str) -> Sequence[str]:
    """The ways in which a secret may stand in a text."""
    if len(secret) < _LEAST_SECRET:
        return ()
    encoded = b64encode(secret.encode()).decode().rstrip("=")
    ways = (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], encoded)
    return tuple(dict.fromkeys((*ways, secret.encode().hex())))


def _json_spans(text: str, hides: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    left = _MOST_READINGS * len(text)
    for name in _JSON_NAME.finditer(text):
        if hides(name[2]):
            begin = name.end()
            end = _end_of_value(text, begin, name[1])
            left -= end - begin
            if left < 0:
                yield begin, len(text)
                return
            yield begin, end


def _end_of_value(text: str, start: int, escape: str) -> int:
    """Where the JSON value ends that starts here; the end of the text for one that is cut off."""
    if escape and text.startswith(f'{escape}"', start):
        end = text.find(f'{escape}"', start + len(escape) + 1)
        return len(text) if end < 0 else end + len(escape) + 1
    if text.startswith('"', start):
        found = _JSON_TEXT.match(text, start)
        return found.end() if found else len(text)
    if text[start : start + 1] in ("{", "["):
        return _end_of_brackets(text, start)
    plain = _JSON_PLAIN.match(text, start)
    return plain.end() if plain else len(text)


def _end_of_brackets(text: str, start: int) -> int:
    depth = 0
    for found in _JSON_BRACKETS.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _is_personal_number(text: str) -> bool:
    """Whether it is a social security number of the United States, or a card's (ISO/IEC 7812: Luhn)."""
    if len(text) == _SOCIAL_SECURITY_CHARACTERS and _SOCIAL_SECURITY.fullmatch(text):
        return True
    if not _CARD.fullmatch(text):
        return False
    digits = [int(character) for character in text if character.isdigit()]
    if len(digits) not in _CARD_DIGITS:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether it is an account's number (ISO 13616: remainder 1 by 97)."""
    plain = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1
