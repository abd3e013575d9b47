#!/bin/sh
# Install the real peers that tests talk to, where that can be done: Debian, as root.
# Elsewhere the tests that need a missing one are skipped by name.
# With the argument "viewer" also what the viewer tests need.
set -eu
missing=""
wanted="storescu:dcmtk Orthanc:orthanc /usr/lib/postgresql:postgresql /usr/share/orthanc/plugins/libOrthancDicomWeb.so:orthanc-dicomweb"
[ "${1:-}" != viewer ] || wanted="$wanted chromium:chromium npm:npm"
for pair in $wanted; do
    program=${pair%%:*}
    command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "not installed, so their tests are skipped:$missing" >&2
fi
