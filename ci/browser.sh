#!/usr/bin/env bash
# The browser in which tests open pages and traces. Without one they are skipped, and say so.
#
#     ci/browser.sh find       # is there one?
#     ci/browser.sh install    # Debian's, where there is none, and the machine is one that CI throws away afterwards
set -euo pipefail

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome chrome; do # as tests/chromium.py has them
        command -v "$name" >/dev/null && return
    done
    return 1
}

install_browser() {
    local log
    if [[ -z "${CI:-}" ]] || (( EUID != 0 )) || ! command -v apt-get >/dev/null; then
        echo "no browser, and none is installed: that is done by root, in CI (CI=1), where there is apt-get"
        return 0
    fi
    echo "installing chromium"
    log="$(mktemp)"
    {
        timeout 120 apt-get update --quiet
        DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install --quiet --yes --no-install-recommends chromium
    } >"$log" 2>&1 </dev/null || { echo "chromium could not be installed"; tail -5 "$log"; }
    rm -f "$log"
}

case "${1:-}" in
    find) find_browser ;;
    install) find_browser || install_browser ;;
    *) echo "usage: ci/browser.sh find | install" >&2; exit 2 ;;
esac
