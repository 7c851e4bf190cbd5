"""Runs the tests on pairs of PostgreSQL, Django and Python: `make test-matrix`."""
