"""The quality benchmark's results as tables, curves and sections of docs/benchmarks."""
