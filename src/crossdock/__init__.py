"""Crossdock: a self-hosted integration hub."""
