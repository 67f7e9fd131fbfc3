"""Long work in an event loop, and the others that wait for it."""

import asyncio

import pytest

from crossdock.kit import loop_turn
from crossdock.kit.loop_turn import LoopTurn


async def test_others_run_once_a_turn_is_over_and_then_another_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    monkeypatch.setattr(loop_turn, "_TURN_S", 0)
    turn = LoopTurn()
    assert turn.over()
    monkeypatch.setattr(loop_turn, "_TURN_S", 3600)
    await turn.pass_on()
    assert ran.is_set()
    assert not turn.over()
