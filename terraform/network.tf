# Where dbt tasks run: private subnets in two zones, with outbound access only.
# One NAT gateway is the cheapest way out (about the price of two interface endpoints in both zones), and the only one to a
# warehouse on the internet. Image layers come from S3 through the gateway endpoint, which is free.

data "aws_availability_zones" "available" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zone_names = slice(sort(coalesce(var.availability_zones, data.aws_availability_zones.available.names)), 0, 2)
  zones      = { for index, zone in local.zone_names : zone => index }
  nat_zones  = { nat = slice(local.zone_names, 0, 1), nat_per_az = local.zone_names, endpoints = [] }[var.network_egress]
}

resource "aws_vpc" "this" {
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true # required for private DNS of interface endpoints

  tags = { Name = local.name }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 2, each.value)

  tags = { Name = "${local.name}-private-${each.key}" }
}

resource "aws_route_table" "private" {
  for_each = local.zones

  vpc_id = aws_vpc.this.id

  tags = { Name = "${local.name}-private-${each.key}" }
}

resource "aws_route_table_association" "private" {
  for_each = local.zones

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]

  tags = { Name = "${local.name}-s3" }
}

resource "aws_security_group" "task" {
  name        = "${local.name}-task"
  description = "dbt tasks: nothing in, chosen ports out"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-task" }
}

resource "aws_vpc_security_group_egress_rule" "task" {
  for_each = toset([for port in var.task_egress_ports : tostring(port)])

  security_group_id = aws_security_group.task.id
  description       = "TCP ${each.key} to AWS and the warehouse"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
}
