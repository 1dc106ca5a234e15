select
    employee_id,
    count(*) as current_rows
from {{ ref('scd_emp') }}
where dbt_valid_to is null
group by employee_id
having count(*) > 1
