"""Deploy dbt on Fargate under Airflow from GitLab or GitHub."""

__version__ = "0.1.0"

DISTRIBUTION = "cipipe-deploy"
"""What `pip install` calls cipipe: on PyPI, "cipipe" is another project."""
