#!/bin/sh
# sh add-user.sh NAME: make a user of MLflow with a random password, which is printed once.
set -eu
cd "$(dirname "$0")"
[ $# = 1 ] || { echo "name the user: sh add-user.sh alice" >&2; exit 2; }
case $1 in *[!a-zA-Z0-9._-]* | "") echo "a name has letters, digits and . _ - alone" >&2; exit 2 ;; esac

[ ! -e .env ] || { set -a; . ./.env; set +a; }
address=${MLFLOW_ADDRESS:-https://$MLFLOW_HOSTNAME}
password=$(openssl rand -hex 12)
# by standard input: other users of the machine see the arguments of a command
printf 'user = "admin:%s"\n' "$MLFLOW_ADMIN_PASSWORD" | curl --config - --fail-with-body --silent --show-error --output /dev/null \
	--header "Content-Type: application/json" --data "{\"username\": \"$1\", \"password\": \"$password\"}" \
	"$address/api/2.0/mlflow/users/create"
echo "export MLFLOW_TRACKING_URI=$address"
echo "export MLFLOW_TRACKING_USERNAME=$1 MLFLOW_TRACKING_PASSWORD=$password"
