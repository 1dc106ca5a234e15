# dev: cheap, and quick to destroy and create again.
# Do not set project, environment, region or account here: a variable file would override the values from cipipe.

secret_recovery_days = 0
log_retention_days   = 14

# A task does not start if its secret has no value. Set one once or, for a warehouse without a password:
# task_secret_variable = null
