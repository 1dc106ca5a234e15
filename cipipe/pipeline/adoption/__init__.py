"""What an existing repository has that cipipe can deploy, and the first
cipipe.toml for it.

`terraform_roots`, `image_contexts` and `dag_sources` each look for one
thing: pure functions over the files that `files` read. `configuration`
turns what was found and what was answered into text; `writing` compares and
writes.
"""
