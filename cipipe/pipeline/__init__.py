"""The use cases: plan, run, destroy, status, bootstrap. Each takes a Project and gives data; none
prints or exits.
"""
