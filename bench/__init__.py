"""Measures the program, as ratios within one run. `python -m bench --help` for the command."""
