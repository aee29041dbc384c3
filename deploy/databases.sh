#!/bin/sh
# Make a role for MLflow and one for Prefect, and their databases, of which neither reads the other's. PostgreSQL runs it once,
# on an empty volume; PGHOST, PGPORT and PGUSER lead to another server.
set -eu

psql -q -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres \
	-v mlflow="$MLFLOW_DB_PASSWORD" -v prefect="$PREFECT_DB_PASSWORD" <<-'SQL'
	CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
	CREATE ROLE prefect LOGIN PASSWORD :'prefect';
	CREATE DATABASE mlflow OWNER mlflow;
	CREATE DATABASE mlflow_auth OWNER mlflow;
	CREATE DATABASE prefect OWNER prefect;
	REVOKE CONNECT ON DATABASE mlflow, mlflow_auth, prefect FROM PUBLIC;
SQL
