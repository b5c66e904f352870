#!/bin/sh
# Prints .env.example with fresh secrets in it: (umask 077 && deploy/new-env.sh > .env)
set -eu
cd "$(dirname "$0")/.."
while IFS= read -r line; do
	case $line in GATEWAY_ADMIN_TOKEN= | GATEWAY_SECRET_KEY= | POSTGRES_PASSWORD=)
		line=$line$(openssl rand -hex 32)
		;;
	esac
	printf '%s\n' "$line"
done < .env.example
