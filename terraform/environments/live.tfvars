# live: survives the loss of a zone, and nothing that is deleted by mistake is gone at once.
# Project, environment, region and account are not set here: a variable file would override what cipipe passes.

vpc_cidr             = "10.41.0.0/20"
network_egress       = "nat_per_az"
container_insights   = "enabled"
log_retention_days   = 365
secret_recovery_days = 30
