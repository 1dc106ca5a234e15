# live: survives the loss of a zone, and what is deleted by mistake can be restored.
# Do not set project, environment, region or account here: a variable file would override the values from cipipe.

vpc_cidr             = "10.41.0.0/20"
network_egress       = "nat_per_az"
container_insights   = "enabled"
log_retention_days   = 365
secret_recovery_days = 30
