select
    employee_id,
    department_id,
    job_title,
    assigned_from,
    assigned_to
from {{ ref('employee_department') }}
