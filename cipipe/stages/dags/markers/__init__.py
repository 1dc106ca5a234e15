"""The marker `# cipipe: NAME` in DAG files: find it, check it, replace the
literal before it.

Everything in this package is pure: bytes and Terraform outputs in, bytes
and problems out.
"""
