{%- set database = var.value.get('athena_elt_database', default_database) -%}
SELECT movie_id, title, ratings, mean_rating
FROM "{{ database }}"."movies_of_genre"
ORDER BY mean_rating DESC NULLS LAST, ratings DESC, movie_id
