# Where to run dbt, for whatever does not read Terraform's outputs or patched DAGs: the DAG `dbt_ssm`, people, scripts, other
# stacks. `insecure_value`, because nothing here is secret and a plan should show changes.

locals {
  parameters = {
    container_name          = { type = "String", value = local.container_name }
    ecs_cluster_name        = { type = "String", value = aws_ecs_cluster.this.name }
    task_definition_arn     = { type = "String", value = aws_ecs_task_definition.dbt.arn }
    private_subnet_ids      = { type = "StringList", value = join(",", [for subnet in aws_subnet.private : subnet.id]) }
    task_security_group_ids = { type = "StringList", value = aws_security_group.task.id }
  }
}

resource "aws_ssm_parameter" "this" {
  for_each = local.parameters

  name           = "/${local.path}/${each.key}"
  type           = each.value.type
  insecure_value = each.value.value
}
