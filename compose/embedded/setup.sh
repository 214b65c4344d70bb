#!/bin/sh
# Installs what the embedded stack takes from Debian, if it is missing: RabbitMQ, and unpackers
# that the tests use as oracles. Nothing is left running on a standard port.
set -eu

missing=""
ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server >/dev/null 2>&1 ||
    [ -n "${DELIVERY_AMQP_URL:-}" ] || missing="$missing rabbitmq-server"
command -v unzip >/dev/null || missing="$missing unzip"
command -v 7z >/dev/null || command -v 7zz >/dev/null || missing="$missing 7zip"
command -v bsdtar >/dev/null || missing="$missing libarchive-tools"
for tool in "$@"; do
    dpkg -s "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "setup: missing$missing. Run as root: apt-get install$missing" \
        "(for RabbitMQ alone you can instead set DELIVERY_AMQP_URL to one that runs)." >&2
    case "$missing" in
        *rabbitmq-server* | *python3*) exit 1 ;;
        *) exit 0 ;; # the tests that need an unpacker say so and are skipped
    esac
fi

echo "setup: installing$missing"
# A package's own service would take its standard port: forbid starting it, for this one install.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    made=1
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
fi
trap '[ -z "$made" ] || $as_root rm -f "$policy"' EXIT
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends \
    $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install$missing; see above" >&2
    exit 1
fi
rm -f "$log"
case "$missing" in
    *rabbitmq-server*)
        # Nor shall it start with the machine.
        if command -v systemctl >/dev/null; then
            $as_root systemctl disable --quiet rabbitmq-server.service epmd.socket epmd.service \
                2>/dev/null || true
        fi
        ;;
esac
