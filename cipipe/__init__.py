"""Deploy dbt on Fargate under Airflow from GitLab or GitHub."""

__version__ = "0.1.0"
