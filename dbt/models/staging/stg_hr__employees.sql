select
    employee_id,
    first_name,
    last_name,
    email,
    hired_on,
    annual_salary
from {{ ref('employee') }}
