{#- In Airflow 3, a run that was started by hand may have no logical date. -#}
{%- set day = (dag_run.logical_date or dag_run.run_after).strftime('%Y-%m-%d') -%}
CREATE TABLE IF NOT EXISTS mean_ratings (
    movie_id integer,
    ratings bigint,
    mean_rating double,
    rated_on varchar
)
WITH (
    format = 'PARQUET',
    partitioned_by = ARRAY['rated_on'],
    external_location = 's3://{{ lake }}/emr/mean_ratings/'
);

INSERT INTO mean_ratings
SELECT
    movie_id,
    count(*),
    round(avg(rating), 2),
    '{{ day }}'
FROM typed_ratings
GROUP BY movie_id;
