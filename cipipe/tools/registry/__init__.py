"""The client of image registries: `client.Registry` is one repository, `login` makes it, and
`copy` copies an image from one to another.
"""
