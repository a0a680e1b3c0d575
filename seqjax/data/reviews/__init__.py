"""Reviews, from files or a generator to rows of word ids."""
