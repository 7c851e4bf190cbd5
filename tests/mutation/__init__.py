"""The proof that each safety step is needed: switch it off, and some test must fail. `python -m tests.mutation`."""
