"""Series measured at equal steps of time, from files or a generator to batches.

A file is read by `csv_files`, `jena` or `labelled` into a `series.Series`; `windows`
says which windows it has, and `batches` deals them out.
"""
