"""Measurements of Crossdock on this machine: `python -m bench NAME --json`."""
