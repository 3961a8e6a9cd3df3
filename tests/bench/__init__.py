"""Benchmarks: ratios, never tests."""
