{%- set database = var.value.get('athena_elt_database', default_database) -%}
CREATE EXTERNAL TABLE IF NOT EXISTS `{{ database }}`.`movies` (
    `movie_id` int,
    `title` string,
    `genres` string COMMENT 'separated by |'
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
LOCATION 's3://{{ lake }}/raw/movies/'
TBLPROPERTIES ('skip.header.line.count' = '1')
