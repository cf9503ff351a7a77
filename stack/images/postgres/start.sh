#!/bin/sh
# Make the data folder when it is empty, then become what was asked for.
set -eu

make_data() {
    new="$PGDATA/.new"
    password=${POSTGRES_PASSWORD_FILE:-}
    if [ -z "$password" ] || [ ! -s "$password" ]; then
        echo "POSTGRES_PASSWORD_FILE names no file with a password" >&2
        exit 2
    fi
    if [ -e "$new" ]; then
        find "$PGDATA" -mindepth 1 -delete # a start that was killed in the middle of this
    elif [ -n "$(ls -A "$PGDATA")" ]; then
        echo "$PGDATA is neither empty nor a data folder of PostgreSQL" >&2
        exit 2
    fi
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    initdb -D "$new" --username="$user" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 > /dev/null
    echo "host all all all scram-sha-256" >> "$new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        echo "CREATE DATABASE \"$database\"" | postgres --single -j -D "$new" postgres > /dev/null
    fi
    # The file that makes it a data folder comes last.
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    mv "$new/PG_VERSION" "$PGDATA/PG_VERSION"
    rmdir "$new"
}

if [ "${1:-}" = postgres ]; then
    shift
    if [ ! -s "$PGDATA/PG_VERSION" ]; then make_data; fi
    exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
fi
exec "$@"
