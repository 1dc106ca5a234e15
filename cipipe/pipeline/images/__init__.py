"""The use cases of `cipipe image`: one `image` stage on its own."""
