"""What is checked before anything is uploaded: DAG files alone, and DAG files in a real Airflow."""
