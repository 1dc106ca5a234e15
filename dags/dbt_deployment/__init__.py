"""Code that several files in the folder above share. It is uploaded before them, so that none of
them ever runs with an older helper.

The folder has the project's name, because everything that Airflow reads shares one `sys.path`, and
a package called `utils` would sooner or later clash with another.
"""
