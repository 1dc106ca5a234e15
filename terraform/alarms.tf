# Whom to tell when something fails: one encrypted topic, an event rule for failed tasks, and an alarm for failed DAG runs.
# bootstrap/ creates the topic's key. AWS's own key for SNS has a policy that keeps out EventBridge and CloudWatch.

locals {
  # A task that somebody stopped, such as Airflow after a timeout, is not a failed task.
  failed_task = {
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.this.arn]
      lastStatus = ["STOPPED"]
      "$or" = [
        { stopCode = ["EssentialContainerExited"], containers = { exitCode = [{ anything-but = 0 }] } },
        { stopCode = ["TaskFailedToStart", "TerminationNotice"] },
      ]
    }
  }
}

resource "aws_sns_topic" "alarms" {
  name              = "${local.name}-alarms"
  kms_master_key_id = coalesce(var.alarm_key, "alias/${local.name}-alarms")
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
      },
      {
        Sid       = "Events" # EventBridge does not promise condition keys to topics
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "alarms" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_event_rule" "task_failed" {
  name          = "${local.name}-task-failed"
  description   = "A task of the cluster ended with an error, or did not start"
  event_pattern = jsonencode(local.failed_task)
}

resource "aws_cloudwatch_event_target" "task_failed" {
  rule = aws_cloudwatch_event_rule.task_failed.name
  arn  = aws_sns_topic.alarms.arn

  input_transformer {
    input_paths = {
      code   = "$.detail.stopCode"
      group  = "$.detail.group"
      reason = "$.detail.stoppedReason"
      task   = "$.detail.taskArn"
      time   = "$.time"
    }
    input_template = "\"Task <task> of <group> failed at <time>: <code>, <reason>\""
  }

  depends_on = [aws_sns_topic_policy.alarms]
}

# Airflow reports how long a failed run took, with the DAG as a dimension: one alarm counts those of all DAGs.
resource "aws_cloudwatch_metric_alarm" "dag_failed" {
  count = local.create_mwaa ? 1 : 0

  alarm_name          = "${local.name}-dag-failed"
  alarm_description   = "A DAG run failed in the MWAA environment ${local.name}"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching" # without failures there is no data
  alarm_actions       = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "failed"
    label       = "failed DAG runs"
    return_data = true
    period      = 300
    expression  = "SELECT COUNT(DAGDurationFailed) FROM \"AmazonMWAA\" WHERE Environment = '${local.name}'"
  }
}
