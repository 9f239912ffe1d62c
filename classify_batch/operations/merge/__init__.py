"""Merges complete runs of different files into one: all of their outcomes, and nothing is called or paid.

What the runs say is taken over as it is: answers like those that a new run reuses, failures as attempts that were never
sent.
"""
