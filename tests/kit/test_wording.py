from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from crossdock.kit.errors import Fault
from crossdock.kit.wording import worded


class Kind(StrEnum):
    CAT = "cat"
    DOG = "dog"


class Cat(BaseModel):
    kind: Literal[Kind.CAT]


class Dog(BaseModel):
    kind: Literal[Kind.DOG]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    number: int = 1
    sent: bool = False
    text: str = ""
    lines: tuple[int, ...] = ()
    notes: dict[str, str] = Field(default_factory=dict, alias="a/b")
    size: Literal["small", "large"] = "small"
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None

    @field_validator("text")
    @classmethod
    def _known(cls, text: str) -> str:
        if text == "bad":
            raise ValueError("is one of those words.")
        return text


@pytest.mark.parametrize(
    ("given", "pointer", "message"),
    [
        ({"numbr": 1}, "/numbr", "is not known here"),
        ({"number": "x"}, "/number", "must be a whole number"),
        ({"sent": "x"}, "/sent", "must be true or false"),
        ({"text": 1}, "/text", "must be text"),
        ({"text": "bad"}, "/text", "is one of those words."),
        ({"lines": {"a": 1}}, "/lines", "must be a list"),
        ({"a/b": []}, "/a~1b", "must be an object"),
        ({"size": "medium"}, "/size", "must be 'small' or 'large'"),
        ({"pet": {}}, "/pet", "lacks kind, which says what it is"),
        ({"pet": {"kind": "cow"}}, "/pet", "has 'cow' as its kind, which must be one of cat, dog"),
        (
            {"pet": {"kind": "cat" * 99}},
            "/pet",
            f"has {('cat' * 99)[:80]!r} as its kind, which must be one of cat, dog",
        ),
        ([], "", "must be an object"),
    ],
)
def test_a_fault_is_told_in_words_for_those_who_wrote_the_input(given: Any, pointer: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate(given)
    assert worded(caught.value.errors()) == (Fault(pointer, message),)
    assert worded(caught.value.errors(), pointer="/in")[0].pointer == f"/in{pointer}"
