"""`seethink doctor`: everything that can be checked before a GPU is used, and all that is wrong at once.

run.py has the order of the checks; each file has one kind of them; check.py is what they all say.
"""
