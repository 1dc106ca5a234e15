CREATE DATABASE IF NOT EXISTS `{{ database }}`;

CREATE EXTERNAL TABLE IF NOT EXISTS `{{ database }}`.`raw_ratings` (
    `user_id` string,
    `movie_id` string,
    `rating` string,
    `rated_at` string
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
LOCATION 's3://{{ lake }}/raw/ratings/'
TBLPROPERTIES ('skip.header.line.count' = '1');

CREATE EXTERNAL TABLE IF NOT EXISTS `{{ database }}`.`typed_ratings` (
    `user_id` int,
    `movie_id` int,
    `rating` double,
    `rated_at` bigint COMMENT 'seconds since 1970'
)
STORED AS PARQUET
LOCATION 's3://{{ lake }}/emr/typed_ratings/';

INSERT OVERWRITE TABLE `{{ database }}`.`typed_ratings`
SELECT
    cast(user_id AS int),
    cast(movie_id AS int),
    cast(rating AS double),
    cast(rated_at AS bigint)
FROM `{{ database }}`.`raw_ratings`;
