"""Prints the rows of each query, of which each line is one in JSON:
duckdb_rows.py SQL..."""
import json
import sys

import duckdb

for sql in sys.argv[1:]:
    print(json.dumps(duckdb.sql(sql).fetchall()))
