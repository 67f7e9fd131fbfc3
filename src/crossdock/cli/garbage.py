"""The garbage collector of a process that is busy and lives long."""

import gc

# Objects made since the last look, and looks at the young and the middle ones before one at the next older.
_THRESHOLDS = (20_000, 20, 50)


def collect_seldom() -> None:
    """Leave out of every collection what is there now, and look at the rest less often; call it when all is started.

    Python looks after each 700 new objects, at everything now and then: under load that took a third of the
    loop's time, walking through modules and classes that never go away. Most of what a delivery makes ends
    with it anyway, by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
