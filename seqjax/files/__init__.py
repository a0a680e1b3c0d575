"""Files as such: whole ones, folders that prove to be whole, archives of strangers."""
