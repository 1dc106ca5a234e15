# What the pipeline and the DAGs need to know. Marker comments in DAG files name these outputs, and a DAG's literal must have
# the output's type, so renaming an output or changing its type breaks DAGs.

output "alarm_topic_arn" {
  description = "Topic that tells about failed tasks and failed DAG runs."
  value       = aws_sns_topic.alarms.arn
}

output "artifacts_url" {
  description = "Folder of dbt's artifacts, as s3://BUCKET/ENVIRONMENT/PROJECT/."
  value       = "s3://${module.artifacts_bucket.name}/${local.artifacts_prefix}"
}

output "athena_database_name" {
  description = "Database that DAGs create and query."
  value       = local.athena_database
}

output "athena_workgroup_name" {
  description = "Workgroup for the DAGs' queries."
  value       = aws_athena_workgroup.this.name
}

output "aws_region" {
  description = "AWS region of the stack."
  value       = var.region
}

output "container_name" {
  description = "Name of the container to override in ecs:RunTask."
  value       = local.container_name
}

output "dags_bucket" {
  description = "Bucket that Airflow reads DAGs from."
  value       = module.dags_bucket.name
}

output "data_lake_bucket" {
  description = "Bucket with raw data, query results and exports."
  value       = module.lake_bucket.name
}

output "dbt_service_role_arn" {
  description = "Role that Airflow assumes to run dbt."
  value       = aws_iam_role.dbt_service.arn
}

output "ecr_repository_name" {
  description = "Name of the image repository."
  value       = aws_ecr_repository.dbt.name
}

output "ecr_repository_url" {
  description = "URL to push images to, without a tag."
  value       = aws_ecr_repository.dbt.repository_url
}

output "ecs_cluster_name" {
  description = "Cluster that runs dbt tasks."
  value       = aws_ecs_cluster.this.name
}

output "emr_instance_profile" {
  description = "Instance profile of EMR clusters. It exists with create_emr."
  value       = local.emr_instance_role
}

output "emr_security_group_ids" {
  description = "Security groups of EMR clusters: primary node, core nodes, service access. Empty without create_emr."
  value       = [for name in ["primary", "core", "service"] : aws_security_group.emr[name].id if var.create_emr]
}

output "emr_service_role_arn" {
  description = "Role that EMR starts clusters with. It exists with create_emr."
  value       = "${local.iam_arn}:role${local.role_path}${local.emr_service_role}"
}

output "log_group_name" {
  description = "Log group of dbt tasks."
  value       = aws_cloudwatch_log_group.dbt.name
}

output "mwaa_environment_name" {
  description = "Name of the MWAA environment; null if there is none."
  value       = one(aws_mwaa_environment.this[*].name)
}

output "parameter_prefix" {
  description = "Path of the SSM parameters that say where to run dbt, including the slash at the end."
  value       = "/${local.path}/"
}

output "private_subnet_ids" {
  description = "Subnets that dbt tasks run in."
  value       = [for subnet in aws_subnet.private : subnet.id]
}

output "tags" {
  description = "Tags of the stack: what DAGs create has them too, and their permissions depend on it."
  value       = { environment = local.tags.environment, project = local.tags.project }
}

output "task_definition_arn" {
  description = "ARN of the revision, not of the family: it runs exactly the image of this apply."
  value       = aws_ecs_task_definition.dbt.arn
}

output "task_security_group_ids" {
  description = "Security groups of dbt tasks."
  value       = [aws_security_group.task.id]
}
