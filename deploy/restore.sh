#!/bin/sh
# sh restore.sh BACKUPS/databases/DATE-TIME: replace the databases by those of a backup, and upload what the bucket lacks.
# Stop MLflow and Prefect first: `docker compose stop mlflow prefect`.
set -eu
cd "$(dirname "$0")"
[ ! -e .env ] || { set -a; . ./.env; set +a; }
[ $# = 1 ] && [ -e "$1/mlflow.dump" ] || { echo "name a backup: sh restore.sh ${BACKUPS:-./backups}/databases/DATE-TIME" >&2; exit 2; }

backups=${BACKUPS:-./backups}
database=${DATABASE-docker compose exec -T db}
aws=${AWS-docker compose run --rm -T --user $(id -u) aws}
user=${POSTGRES_USER:-postgres}
for each in mlflow mlflow_auth prefect; do
	$database dropdb -U "$user" --if-exists "$each"  # it fails while a server uses the database
	$database createdb -U "$user" --owner "${each%_auth}" "$each"
	$database psql -q -U "$user" -d postgres -c "REVOKE CONNECT ON DATABASE $each FROM PUBLIC"
	$database pg_restore -U "$user" --exit-on-error --dbname "$each" <"$1/$each.dump"
done
(cd "$backups" && $aws s3 sync --only-show-errors bucket "$ARTIFACTS")
echo "restored $1: docker compose start mlflow prefect"
