#!/bin/sh
# Copy the databases and the bucket to $BACKUPS: databases/DATE-TIME/, of which the newest KEEP (14) stay, and bucket/.
# The databases come first: a file that they name is in the bucket by then. What is deleted in the bucket stays in its copy.
set -eu
cd "$(dirname "$0")"
[ ! -e .env ] || { set -a; . ./.env; set +a; }
umask 077

backups=${BACKUPS:-./backups}
database=${DATABASE-docker compose exec -T db}             # before commands of PostgreSQL
aws=${AWS-docker compose run --rm -T --user $(id -u) aws}  # AWS's command, in the folder of backups
name=$(date -u +%Y%m%d-%H%M%S)
mkdir -p "$backups/databases/$name.partial" "$backups/bucket"
for each in mlflow mlflow_auth prefect; do
	$database pg_dump -U "${POSTGRES_USER:-postgres}" --format custom "$each" >"$backups/databases/$name.partial/$each.dump"
done
(cd "$backups" && $aws s3 sync --only-show-errors "$ARTIFACTS" bucket)
mv "$backups/databases/$name.partial" "$backups/databases/$name"
ls -d "$backups"/databases/*[0-9] | sort -r | tail -n +$((${KEEP:-14} + 1)) | xargs -r rm -r
echo "$backups/databases/$name"
