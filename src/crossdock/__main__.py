"""`python -m crossdock` is the command `crossdock`."""

from crossdock.cli.main import app

if __name__ == "__main__":
    app(prog_name="crossdock")
