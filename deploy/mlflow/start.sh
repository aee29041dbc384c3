#!/bin/sh
# Become MLflow's server with users. MLflow takes the address of the users' database, which has a password, from a file alone.
# Members of the team may write runs and versions of all projects (EDIT); only their owners and the admin delete them.
set -eu

export MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-/tmp/basic_auth.ini}"
(
	umask 077
	cat >"$MLFLOW_AUTH_CONFIG_PATH" <<-INI
		[mlflow]
		default_permission = EDIT
		database_uri = $MLFLOW_AUTH_DATABASE
		admin_username = admin
		auth_cache_ttl_seconds = 60
	INI
)
[ -n "${MLFLOW_S3_ENDPOINT_URL:-}" ] || unset MLFLOW_S3_ENDPOINT_URL
exec mlflow server --app-name basic-auth
