"""The bucket that Airflow reads: what it holds, what the manifest says, whose each object is."""
