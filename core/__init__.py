"""Rules of the desk as pure functions: no clock, no files, no network, no randomness.

Everything here takes what it needs as arguments and returns decisions; ``gateway`` performs them.
Nothing in a mail makes this package raise.
"""
