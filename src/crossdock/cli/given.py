"""What commands are given in files and on standard input."""

import json
import sys
from pathlib import Path
from typing import Any

from crossdock.kit.errors import InvalidInputError

STANDARD_INPUT = "-"


def read_settings(path: Path | None) -> Any:  # noqa: ANN401 - whatever the file's JSON says
    """The JSON in a file; None for none."""
    if path is None:
        return None
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}.") from None


def read_secret(given: str | None) -> str | None:
    """The secret as given, or from standard input for `-`: other users of a machine see what a command is given."""
    return sys.stdin.readline().rstrip("\r\n") if given == STANDARD_INPUT else given
