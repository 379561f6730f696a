"""The benchmarks behind `jobs/benchmark.py`: measurements side by side in one run.

Not a part of the installed package; the product never imports them.
"""
