"""What `reproduce` runs, and the tables it makes of it."""
