"""perdure and stock ZODB side by side: `make bench`, or `python -m benchmarks --help`."""
