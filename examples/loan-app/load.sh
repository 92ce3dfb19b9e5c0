#!/usr/bin/env bash
# Keeps the loan service busy: events, payments and questions, from a few clients at once, until it is stopped.
#
#   examples/loan-app/load.sh [url] [clients] [requests a client]
set -euo pipefail
url=${1:-http://127.0.0.1:8088}
clients=${2:-4}
requests=${3:-1000000}

client() {
    local failed=0 n id
    for ((n = 0; n < requests; n++)); do
        id=$((1 + RANDOM % 100))
        case $((n % 6)) in
        0) post "/applications/$id/events" '{"type":"Request","service":"credit-bureau"}' ;;
        1) post "/applications/$id/events" '{"type":"Request","service":"credit-bureau","error":"no answer"}' ;;
        2 | 3) post /payments "{\"customer_id\":$id,\"loan_id\":$id,\"amount\":\"$((RANDOM % 500)).25\",\"currency\":\"EUR\",\"method\":\"Card\"}" ;;
        4) ask "/customers/$id/payments" ;;
        5) ask "/applications/$id/logs" ;;
        esac || failed=$((failed + 1))
    done
    echo "client $1: $requests requests, $failed failed"
    [ "$failed" -eq 0 ]
}
post() { curl -fsS -o /dev/null -H 'content-type: application/json' -d "$2" "$url$1"; }
ask() { curl -fsS -o /dev/null "$url$1"; }

pids=()
for ((c = 1; c <= clients; c++)); do client "$c" & pids+=($!); done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
exit $status
