"""The benches, one a file: `TITLE`, `BARS` and `run(options)`."""
