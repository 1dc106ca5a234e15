CREATE TABLE IF NOT EXISTS mean_ratings (
    movie_id integer,
    ratings bigint,
    mean_rating double
)
WITH (format = 'PARQUET', external_location = 's3://{{ lake }}/emr/mean_ratings/');

DELETE FROM mean_ratings;

INSERT INTO mean_ratings
SELECT
    movie_id,
    count(*),
    round(avg(rating), 2)
FROM typed_ratings
GROUP BY movie_id;
