{%- set database = var.value.get('athena_elt_database', default_database) -%}
{%- set genre = var.value.get('athena_elt_genre', default_genre) -%}
CREATE OR REPLACE VIEW "{{ database }}"."movies_of_genre" AS
SELECT
    movies.movie_id,
    movies.title,
    count(ratings.rating) AS ratings,
    round(avg(ratings.rating), 2) AS mean_rating
FROM "{{ database }}"."movies" AS movies
LEFT JOIN "{{ database }}"."ratings" AS ratings
    ON movies.movie_id = ratings.movie_id
WHERE contains(split(movies.genres, '|'), '{{ genre | replace("'", "''") }}')
GROUP BY movies.movie_id, movies.title
