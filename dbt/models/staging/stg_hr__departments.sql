select
    department_id,
    department_name,
    city
from {{ ref('department') }}
