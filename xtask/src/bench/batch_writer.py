# Moves rows of integration_logs as one writes it today; prints the seconds that it took.
import json
import os
import sys
import time
from decimal import Decimal

import boto3
import psycopg2
import psycopg2.extras

endpoint, rows = sys.argv[1], int(sys.argv[2])
connection = psycopg2.connect(os.environ["LOCKSTEP_BENCH_SOURCE_URL"])
cursor = connection.cursor("rows", cursor_factory=psycopg2.extras.RealDictCursor)
cursor.itersize = 2000
table = boto3.resource(
    "dynamodb",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="bench",
    aws_secret_access_key="bench",
).Table("integration_logs")


def item(row):
    out = {
        "PK": f"LOG#{row['service_name']}#{row['log_timestamp']:%Y-%m-%d}",
        "SK": f"{row['log_timestamp'].isoformat()}#{row['log_id']:020d}",
    }
    for name, value in row.items():
        if value is None:
            continue
        if isinstance(value, (dict, list)):
            value = json.dumps(value)
        elif isinstance(value, float):
            value = Decimal(str(value))
        elif hasattr(value, "isoformat"):
            value = value.isoformat()
        out[name] = value
    return out


began, count = time.monotonic(), 0
cursor.execute("SELECT * FROM public.integration_logs LIMIT %s", (rows,))
with table.batch_writer() as batch:
    for row in cursor:
        batch.put_item(Item=item(row))
        count += 1
if count != rows:
    sys.exit(f"{count} of {rows} rows")
print(time.monotonic() - began)
