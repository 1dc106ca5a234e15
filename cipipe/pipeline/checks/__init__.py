"""What is checked before anything starts: paths, settings, refs, order of pipelines."""
