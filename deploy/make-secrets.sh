#!/bin/sh
# Fill in the passwords that .env lacks, each of 192 random bits; those that are there stay.
set -eu
cd "$(dirname "$0")"
umask 077

[ -e .env ] || cp .env.example .env
chmod 600 .env
for name in POSTGRES_PASSWORD MLFLOW_DB_PASSWORD PREFECT_DB_PASSWORD MLFLOW_ADMIN_PASSWORD MLFLOW_SECRET_KEY; do
	sed "s/^$name=\$/$name=$(openssl rand -hex 24)/" .env >.env.partial
	mv .env.partial .env
done
sed "s/^PREFECT_AUTH_STRING=\$/PREFECT_AUTH_STRING=team:$(openssl rand -hex 24)/" .env >.env.partial
mv .env.partial .env
echo ".env has all passwords: keep a copy of it where the team keeps secrets, and never in git"
