"""The marker `# cipipe: NAME` in a DAG file: found, checked, replaced. Pure."""
