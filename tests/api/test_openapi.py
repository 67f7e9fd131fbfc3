"""The API description's titles."""

from crossdock.api.app import hub_api


def test_every_operation_has_a_title_of_its_own() -> None:
    """Not its function's name, which is what FastAPI makes of none."""
    untitled = [
        operation["operationId"]
        for item in hub_api().openapi()["paths"].values()
        for operation in item.values()
        if operation["summary"] == operation["operationId"].replace("_", " ").title()
    ]
    assert untitled == []
