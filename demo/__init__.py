"""A small site on a PostgreSQL of its own: ten ways to change rows, and what becomes of their files.

`make demo` prints it, `make demo-serve` leaves the site running to look at.
"""
