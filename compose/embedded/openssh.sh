#!/bin/sh
# Unpacks Debian's SSH server for the tests into a folder, where the machine has none: it is not
# installed, so nothing listens and nothing starts with the machine. Tests that want it are skipped
# where this can't be done.
set -eu

folder=$1
[ -x /usr/sbin/sshd ] || [ -x "$folder/usr/sbin/sshd" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 0

echo "setup: unpacking openssh-server for the tests"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get() { (cd "$work" && apt-get download -qq openssh-server) >/dev/null 2>&1; }
if get || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && get; }; then
    mkdir -p "$folder"
    dpkg -x "$work"/openssh-server_*.deb "$folder"
else
    echo "setup: openssh-server can't be had here: what is tested against it is skipped" >&2
fi
