# The key of the topic of alarms, if `alarm_key` is true. AWS's own key for SNS cannot be used: its policy does not let
# EventBridge and CloudWatch publish. This root creates it, not the stack: whoever creates keys also tags them, and by a tag
# could make somebody else's key its own.

resource "aws_kms_key" "alarms" {
  count = var.alarm_key ? 1 : 0

  description             = "Topic of alarms of the ${local.name} stack"
  enable_key_rotation     = true
  deletion_window_in_days = 7 # nothing is stored with it

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account" # its IAM policies decide
        Effect    = "Allow"
        Principal = { AWS = "${local.iam_arn}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "Publish"
        Effect    = "Allow"
        Principal = { Service = ["cloudwatch.amazonaws.com", "events.amazonaws.com"] }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
      },
    ]
  })
}

resource "aws_kms_alias" "alarms" {
  count = var.alarm_key ? 1 : 0

  name          = "alias/${local.name}-alarms"
  target_key_id = aws_kms_key.alarms[0].key_id
}
