{#- The schemas of dev and live are what the profile and the models say. Everything else, a laptop
included, gets a suffix, so that no two of them write to the same tables:

    DBT_ENVIRONMENT   dev, live, or anything else, which adds _sandbox
    DBT_SCHEMA_USER   adds the name of a person or a branch
-#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set suffixes = [] -%}
    {%- if env_var('DBT_ENVIRONMENT', '') not in ['dev', 'live'] -%}
        {%- do suffixes.append('sandbox') -%}
    {%- endif -%}
    {%- set user = env_var('DBT_SCHEMA_USER', '') | trim | lower -%}
    {%- if user -%}
        {%- do suffixes.append(modules.re.sub('[^a-z0-9]+', '_', user)) -%}
    {%- endif -%}
    {{- ([(custom_schema_name or target.schema) | trim] + suffixes) | join('_') -}}
{%- endmacro %}
