with current_assignment as (

    select
        employee_id,
        department_id,
        job_title,
        assigned_from
    from {{ ref('stg_hr__assignments') }}
    where assigned_to is null

)

select
    employee.employee_id,
    employee.first_name,
    employee.last_name,
    employee.email,
    employee.hired_on,
    current_assignment.job_title,
    current_assignment.assigned_from,
    department.department_id,
    department.department_name,
    department.city,
    employee.annual_salary
from {{ ref('stg_hr__employees') }} as employee
left join current_assignment
    on employee.employee_id = current_assignment.employee_id
left join {{ ref('stg_hr__departments') }} as department
    on current_assignment.department_id = department.department_id
