"""What pgcleanup costs, measured: `python -m benchmarks`. Figures for people, no assertions."""
