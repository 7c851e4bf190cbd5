"""The promise, under whatever several applications and drains do at the same time."""
