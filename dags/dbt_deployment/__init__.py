"""What several of the files beside this folder share. Uploaded before them, so that none ever meets
an older helper.

The folder has the project's own name: everything that Airflow reads shares one `sys.path`, and a
`utils` would soon clash.
"""
