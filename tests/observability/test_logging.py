import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from crossdock.observability.logging import configure_logging

SECRET = "cdk_" + "s3cret" * 7 + "x"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    configure_logging(level="info", log_format="json")


def fail_with_secrets() -> None:
    password = "hunter2-in-a-local"
    raise ValueError(f"cannot use {SECRET} at postgresql://owner:{'pw'}word@db/x, len {len(password)}")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("through_structlog", [True, False])
def test_a_logged_exception_shows_no_secret_of_its_message_or_its_variables(
    capsys: pytest.CaptureFixture[str], log_format: str, *, through_structlog: bool
) -> None:
    configure_logging(level="info", log_format=log_format)
    try:
        fail_with_secrets()
    except ValueError as error:
        if through_structlog:
            structlog.get_logger("test").error("it_failed", exc_info=error)
        else:
            logging.getLogger("test").exception("it failed")
    shown = capsys.readouterr().err
    assert "cannot use" in shown
    assert "fail_with_secrets" in shown
    for secret in (SECRET, "hunter2-in-a-local", "owner:pwword"):
        assert secret not in shown


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_values_are_masked_by_name_and_by_look(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(level="info", log_format=log_format)
    structlog.get_logger("test").warning(
        "called", password="hunter2", headers={"Authorization": "Bearer abcdefgh12345"}, url=f"https://x/?k={SECRET}"
    )
    shown = capsys.readouterr().err
    assert "called" in shown
    for secret in (SECRET, "hunter2", "abcdefgh12345"):
        assert secret not in shown


@pytest.mark.parametrize("through_structlog", [True, False])
def test_a_standard_error_that_takes_nothing_stops_no_work(
    monkeypatch: pytest.MonkeyPatch, *, through_structlog: bool
) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - it cannot be closed in peace
    monkeypatch.setattr("sys.stderr", full)
    configure_logging(level="info", log_format="json")
    if through_structlog:
        structlog.get_logger("test").warning("called")
    else:
        logging.getLogger("test").warning("called")
    with pytest.raises(OSError, match="No space left"):
        full.close()


@pytest.mark.parametrize("odd", ["\ud800", {1.5: 2}, {(1, 2): 3}, object(), b"\xff", float("nan")])
def test_whatever_is_logged_comes_as_one_line_of_json(capsys: pytest.CaptureFixture[str], odd: object) -> None:
    configure_logging(level="info", log_format="json")
    structlog.get_logger("test").info("called", odd=odd)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "called"
