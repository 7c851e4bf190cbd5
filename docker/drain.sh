#!/bin/sh
# A drain every few seconds, until the container is stopped. A host with cron or systemd needs no loop: docs/operations.md.
child=
# The drain gives its names back and ends; a shell would not even tell it.
trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 0' TERM INT
while :; do
    python demo/manage.py drain_deletions --no-progress &
    child=$!
    wait "$child"
    sleep "${DRAIN_INTERVAL:-10}" &
    child=$!
    wait "$child"
done
