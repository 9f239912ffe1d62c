"""What can go wrong with a run, told before a credit is spent.

findings    what was found, and which exit status follows: pure
judging     settings, IDs and files against what is known of them: pure
size        what the plan comes to, in requests, time and money: pure
look        reads the input and asks the API
words       the report for a person and for a program
"""
