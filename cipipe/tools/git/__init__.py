"""The client of git: `client.Repository` asks, `objects` is what it gets, `lfs` is Git LFS."""
