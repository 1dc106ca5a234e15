"""The MWAA environment: its requirements and plugins, and whether it imported the DAGs."""
