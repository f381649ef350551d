"""The algorithms of the published code in their plain form, written again for comparison.

They are what the benchmarks divide by. They share no code with the library, and give its results.
"""
