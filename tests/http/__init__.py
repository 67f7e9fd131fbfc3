"""Tests of the kit for endpoints."""  # noqa: A005 - mirrors src
