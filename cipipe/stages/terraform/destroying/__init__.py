"""What a destroy of a `terraform` stage looks at before it deletes anything,
and what it does beside Terraform.

A plan shows the titles and does not import what the steps do: that takes
longer than the plan.
"""
