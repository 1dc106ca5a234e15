"""One client of git: its command, the objects that it stores, Git LFS."""
