# What the stack tells people: its topic, event rules and alarms. alarm_key.tf has the topic's key, which needs no permission.

resource "aws_iam_policy" "alarms" {
  name        = "${local.name}-alarms"
  description = "Change the alarms of the ${local.name} stack"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Alarms"
        Effect = "Allow"
        Action = [
          "cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource",
          "events:DeleteRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:TagResource",
          "events:UntagResource", "sns:CreateTopic", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe",
          "sns:TagResource", "sns:UntagResource",
        ]
        Resource = local.alarm_arns
      },
      {
        Sid      = "Unsubscribe"
        Effect   = "Allow"
        Action   = "sns:Unsubscribe"
        Resource = "*" # the action supports no resources
      },
    ]
  })
}
