import pytest

from crossdock.connectors.webhooks import presets
from tests.connectors.webhooks.samples import SAMPLES, signed
from tests.connectors.webhooks.token_samples import TOKEN_SAMPLES


def test_presets_are_shown_by_name_and_those_of_no_sender_last() -> None:
    names = list(presets())
    assert names[-2:] == ["generic", "none"]
    assert names[:-2] == sorted(names[:-2])
    assert all(preset.name == name for name, preset in presets().items())


@pytest.mark.parametrize("name", presets())
def test_every_preset_says_in_one_line_how_to_set_it_up(name: str) -> None:
    preset = presets()[name]
    assert preset.title
    assert preset.how_to.endswith(".")
    assert "\n" not in preset.how_to
    assert len(preset.how_to) < 120


@pytest.mark.parametrize("name", presets())
def test_every_preset_has_a_sample(name: str) -> None:
    sampled = {sample.preset for sample in SAMPLES} | {sample.preset for sample in TOKEN_SAMPLES}
    # What needs settings has them, and its sample, in its own tests.
    assert name in sampled | {"none"} or presets()[name].needs_settings


@pytest.mark.parametrize("name", sorted({sample.preset for sample in SAMPLES}))
def test_every_preset_makes_headers_that_can_be_sent(name: str) -> None:
    for sample in (one for one in SAMPLES if one.preset == name):
        headers = dict(signed(sample).headers.items())
        assert headers["content-type"] == sample.content_type
        assert all(value and value.isascii() and value.isprintable() for value in headers.values())
