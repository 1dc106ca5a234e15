# dev: cheap, and quick to take down and create again.
# Project, environment, region and account are not set here: a variable file would override what cipipe passes.

secret_recovery_days = 0
log_retention_days   = 14

# A task whose secret has no value does not start. Put one there once, or, for a warehouse without a password:
# task_secret_variable = null
