"""The use cases: plan, run, destroy, status, bootstrap and the rest.

Each takes a Session and returns data; none prints or exits.
"""
