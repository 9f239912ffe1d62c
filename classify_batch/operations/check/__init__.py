"""Finds out what can go wrong with a run, before a credit is spent.

findings     what a check finds, and the exit status that follows: pure
assess       assesses settings, IDs and files: pure
estimate     estimates a plan's requests, time and cost: pure
check_input  reads the input and asks the API
report       the report for a person and for a program
"""
