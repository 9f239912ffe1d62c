"""What can go wrong with a run, told before a credit is spent.

findings     what was found, and which exit status follows: pure
assess       settings, IDs and files against what is known of them: pure
estimate     what the plan comes to, in requests, time and money: pure
check_input  reads the input and asks the API
report       the report for a person and for a program
"""
