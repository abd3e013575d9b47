#!/bin/sh
# Install the real peers that tests talk to, where that can be done: Debian, as root.
# Elsewhere the tests that need a missing one are skipped by name.
set -eu

# KServe's model server needs other versions than we do of what we use: an environment of its own, of about
# 300 MB, made once.
kserve=.cache/kserve
uv=$(command -v uv || echo .venv/bin/uv)
if ! [ -e "$kserve/made" ] && [ -x .venv/bin/python ]; then
    if "$uv" venv --quiet --clear --python .venv/bin/python "$kserve" &&
        "$uv" pip install --quiet --python "$kserve/bin/python" kserve==0.21.0 onnxruntime==1.31.1; then
        touch "$kserve/made"
    else
        rm -rf "$kserve"
        echo "not installed, so its tests are skipped: kserve" >&2
    fi
fi

missing=""
wanted="storescu:dcmtk chromium:chromium Orthanc:orthanc /usr/lib/postgresql:postgresql /usr/share/orthanc/plugins/libOrthancDicomWeb.so:orthanc-dicomweb"
wanted="$wanted promtool:prometheus systemd-analyze:systemd nginx:nginx-light npm:npm"
for pair in $wanted; do
    program=${pair%%:*}
    command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || missing="$missing ${pair##*:}"
done
if [ -z "$missing" ]; then
    :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "not installed, so their tests are skipped:$missing" >&2
fi

# The identity provider that the login is tried with, of about 10 MB, made once.
oidc=.cache/oidc
if ! [ -e "$oidc/made" ] && command -v npm >/dev/null 2>&1; then
    if npm install --silent --no-audit --no-fund --prefix "$oidc" oidc-provider@8.8.1; then
        touch "$oidc/made"
    else
        rm -rf "$oidc"
        echo "not installed, so its tests are skipped: oidc-provider" >&2
    fi
fi
