{%- set database = var.value.get('athena_elt_database', default_database) -%}
CREATE EXTERNAL TABLE IF NOT EXISTS `{{ database }}`.`ratings` (
    `user_id` int,
    `movie_id` int,
    `rating` double,
    `rated_at` bigint COMMENT 'seconds since 1970'
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
LOCATION 's3://{{ lake }}/raw/ratings/'
TBLPROPERTIES ('skip.header.line.count' = '1')
