import asyncio

from crossdock.features.inbound.pressure import Pressure


async def test_processing_waits_while_many_are_taken_in_and_goes_on_when_they_are_fewer() -> None:
    pressure = Pressure(many=2, patience_s=60)
    with pressure.taking_in():
        await pressure.give_way()
        with pressure.taking_in():
            waiting = asyncio.create_task(pressure.give_way())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting


async def test_a_flood_without_end_does_not_stop_processing() -> None:
    pressure = Pressure(many=1, patience_s=0.01)
    with pressure.taking_in():
        await pressure.give_way()
