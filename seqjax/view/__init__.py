"""What people see of a run: lines and tables, a report, pictures."""
