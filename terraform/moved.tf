# The buckets were resources of this root before they became modules; an environment that was applied then keeps them.

moved {
  from = aws_s3_bucket.dags
  to   = module.dags_bucket.aws_s3_bucket.this
}

moved {
  from = aws_s3_bucket_versioning.dags
  to   = module.dags_bucket.aws_s3_bucket_versioning.this[0]
}

moved {
  from = aws_s3_bucket_server_side_encryption_configuration.dags
  to   = module.dags_bucket.aws_s3_bucket_server_side_encryption_configuration.this
}

moved {
  from = aws_s3_bucket_public_access_block.dags
  to   = module.dags_bucket.aws_s3_bucket_public_access_block.this
}

moved {
  from = aws_s3_bucket_ownership_controls.dags
  to   = module.dags_bucket.aws_s3_bucket_ownership_controls.this
}

moved {
  from = aws_s3_bucket_policy.dags
  to   = module.dags_bucket.aws_s3_bucket_policy.this
}

moved {
  from = aws_s3_bucket.lake
  to   = module.lake_bucket.aws_s3_bucket.this
}

moved {
  from = aws_s3_bucket_server_side_encryption_configuration.lake
  to   = module.lake_bucket.aws_s3_bucket_server_side_encryption_configuration.this
}

moved {
  from = aws_s3_bucket_public_access_block.lake
  to   = module.lake_bucket.aws_s3_bucket_public_access_block.this
}

moved {
  from = aws_s3_bucket_ownership_controls.lake
  to   = module.lake_bucket.aws_s3_bucket_ownership_controls.this
}

moved {
  from = aws_s3_bucket_policy.lake
  to   = module.lake_bucket.aws_s3_bucket_policy.this
}
