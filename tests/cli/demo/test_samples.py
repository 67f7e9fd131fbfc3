import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossdock.cli.demo.errors import DemoError
from crossdock.cli.demo.samples import PRESETS, Sample, from_folder, packaged
from crossdock.connectors.webhooks import identify, presets, read_document, sign, verify

SUITE = Path(__file__).parents[4] / "shared" / "suites" / "github-webhooks"


@pytest.mark.parametrize("sample", packaged(), ids=lambda sample: sample.name)
def test_a_packaged_payload_is_a_webhook_of_its_sender_and_new_each_time(sample: Sample) -> None:
    preset = presets()[sample.preset]
    secret = preset.signature.new_secret()
    now = datetime.now(UTC)
    found = []
    for _ in range(2):
        webhook = sample.webhook()
        request = sign(
            preset, secret=secret, body=webhook.body, url="http://hub.test/door", now=now, event=webhook.event
        )
        verify(preset, request=request, secrets=[secret], now=now)
        found.append(identify(preset, request, read_document(preset, request).document))
        assert b"@" not in webhook.body.replace(b"@harbour", b"").replace(b"@north", b"")
    assert found[0].type == found[1].type
    assert (found[0].type or "").startswith(f"{sample.preset}.")
    assert None not in {found[0].id, found[1].id}
    assert found[0].id != found[1].id


def test_the_packaged_payloads_take_turns_among_the_senders() -> None:
    assert tuple(sample.preset for sample in packaged()[: len(PRESETS)]) == PRESETS


def test_files_go_as_the_sender_that_they_look_like(tmp_path: Path) -> None:
    files = {
        "a folder/x.json": b'{"anything": [1, 2]}',
        "docusign/y.json": b'{"event": "e", "data": {"envelopeId": "1"}, "generatedDateTime": "now"}',
        "stripe/z.json": b'{"object": "event", "id": "evt_1", "type": "t", "data": {}}',
        "broken/cut.json": b'{"a": ',
        "broken/nan.json": b'{"a": NaN}',
        "notes.txt": b"not looked at",
    }
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    samples = {sample.name: sample for sample in from_folder(tmp_path)}
    assert {name: sample.preset for name, sample in samples.items()} == {
        "a folder/x.json": "github",
        "broken/cut.json": "github",
        "broken/nan.json": "github",
        "docusign/y.json": "docusign",
        "stripe/z.json": "stripe",
    }
    plain = samples["a folder/x.json"].webhook()
    assert (plain.body, plain.event.type, plain.unreadable) == (files["a folder/x.json"], "a_folder", None)
    assert samples["broken/cut.json"].unreadable is not None
    assert samples["broken/nan.json"].unreadable == "NaN is no JSON"
    first, second = (json.loads(samples["stripe/z.json"].webhook().body)["id"] for _ in range(2))
    assert first != second


def test_a_folder_without_json_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DemoError, match=folder.name):
            from_folder(folder)


def test_a_folder_of_real_payloads_names_the_one_that_is_cut_short() -> None:
    if not SUITE.is_dir():
        pytest.skip("the suite of GitHub's webhooks is not beside this repository")
    samples = from_folder(SUITE)
    assert len(samples) == len(list(SUITE.rglob("*.json")))
    assert [sample.name.rpartition("/")[2] for sample in samples if sample.unreadable] == ["payload.json"]
    assert {sample.event_name for sample in samples} == {path.parent.name for path in SUITE.rglob("*.json")}
