import asyncio
import socket
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossdock.api.listening import listen
from crossdock.observability import gathering, metrics
from crossdock.observability.gathering import Gathering, own_metrics, told_to_others


async def test_figures_of_all_processes_come_with_their_numbers() -> None:
    metrics.EVENTS_ACCEPTED.inc()
    metrics.ATTEMPTS.count("succeeded")
    with listen("127.0.0.1", 0) as other, listen("127.0.0.1", 0) as gone:
        ports = {1: 1, 2: other.getsockname()[1], 3: gone.getsockname()[1]}
        gone.close()
        async with told_to_others(other):
            text = (await Gathering(number=1, ports=ports).metrics()).decode()
    families = list(text_string_to_metric_families(text))
    assert Counter(family.name for family in families).most_common(1)[0][1] == 1
    (count, *rest) = families
    assert [(sample.name, sample.value) for sample in count.samples] == [("crossdock_processes", 2)]
    for own in text_string_to_metric_families((await own_metrics()).decode()):
        (merged,) = (family for family in rest if family.name == own.name)
        assert (merged.type, merged.documentation) == (own.type, own.documentation)
        for number in ("1", "2"):
            of_one = [sample for sample in merged.samples if sample.labels["process"] == number]
            assert [(sample.name, {**sample.labels, "process": number}, sample.value) for sample in own.samples] == [
                (sample.name, sample.labels, sample.value) for sample in of_one
            ]


async def test_one_that_does_not_answer_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_ANSWER_WITHIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {1: 1, 2: silent.getsockname()[1]}
        text = (await Gathering(number=1, ports=ports).metrics()).decode()
    assert "crossdock_processes 1.0" in text
    assert 'process="2"' not in text


async def test_of_one_that_dies_while_it_tells_nothing_is_believed() -> None:
    async def dies(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"crossdock_events_accepted_total 12")
        writer.close()

    with listen("127.0.0.1", 0) as dying:
        async with await asyncio.start_server(dies, sock=dying):
            text = (await Gathering(number=1, ports={2: dying.getsockname()[1]}).metrics()).decode()
    assert "crossdock_processes 1.0" in text
    assert 'process="2"' not in text
