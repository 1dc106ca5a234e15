"""The entry point of the dbt container: credentials, dbt's commands, artifacts.

`python -m dbt_runtime` runs the whole sequence, `python -m dbt_runtime dbt run …` one command.
docs/reference-dbt.md lists the variables that it reads.
"""
