#!/bin/sh
# Runs in the guest, from a disk that holds nothing but the checks: waits until the system has started, runs each check
# until it passes or its time is up, and reports a line for each on a virtio-serial port. Beside it: settings.sh
# (FACTOR, the services and ports that are expected) and list (one "TIMEOUT_S NAME" a line).
cd "$(dirname "$0")" || exit 1
# shellcheck disable=SC1091 # written for each boot
. ./settings.sh

say() { printf '%s\n' "$*" >&3; }
now() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; } # hundredths of a second

# pace: hundredths of a second that a fixed amount of work takes.
pace() {
    start=$(now) turns=0
    while [ "$turns" -lt 100000 ]; do turns=$((turns + 1)); done
    echo $(($(now) - start + 1))
}

# longer: what a limit is multiplied by, in hundredths, because the host has more other work than when it set FACTOR.
longer() {
    slower=$(($(pace) * 100 / PACE))
    if [ "$slower" -gt 400 ]; then slower=400; fi
    if [ "$slower" -lt 150 ]; then slower=100; fi
    echo "$slower"
}

# check NAME TIMEOUT_S COMMAND...: "check NAME OUTCOME ATTEMPTS HUNDREDTHS OUTPUT [FIRST]", outputs in base64. What the
# first try wrote is told too where a later one failed: it may have failed of what the first had left.
check() {
    name=$1 limit=$(($2 * 100 * FACTOR)) attempts=0 begin=$(now) outcome=failed signal=TERM extended=
    shift 2
    rm -f first
    if [ "$1" = python3 ]; then signal=ABRT; fi # it says where it stands
    while :; do
        attempts=$((attempts + 1))
        left=$(((limit - $(now) + begin) / 100 + 1))
        if [ "$left" -lt 1 ]; then left=1; fi
        # No standard input: a check that reads it would eat the list of those after it. No port: only this program reports.
        timeout -s "$signal" -k 5 "$left" "$@" >latest 2>&1 </dev/null 3>&- 4<&-
        code=$?
        # A try that the limit cuts off has nothing to say, unless it was the only one.
        case $attempts:$code in
        1:124 | 1:137) outcome=timed-out && mv latest output ;;
        *:124 | *:137) ;;
        *:0) outcome=passed && mv latest output && break ;;
        *) outcome=failed && mv latest output && if [ ! -e first ]; then cp output first; fi ;;
        esac
        if [ $(($(now) - begin)) -ge "$limit" ]; then
            if [ "$extended" ]; then break; fi
            extended=$(longer)
            if [ "$extended" = 100 ]; then break; fi
            limit=$((limit * extended / 100))
            say running # the host waits for a word anew
        fi
        sleep 1
    done
    took=$(($(now) - begin)) line="$(tail -c 2000 output | base64 -w 0)"
    if [ "$outcome" = failed ] && [ "$attempts" -gt 1 ] && [ -s first ]; then line="$line $(tail -c 2000 first | base64 -w 0)"; fi
    say "check $name $outcome $attempts $took $line"
}

case ${1-} in
started)
    state=$(systemctl is-system-running)
    echo "systemd says: $state"
    systemctl list-units --failed --plain --no-legend
    [ "$state" = running ]
    ;;
root)
    # The root file system (or the state of a read-only one) and the volumes fill their partitions, and the last of these
    # ends where the disk does, but for a MiB or two.
    end=0
    for path in $GROWING; do
        device=$(basename "$(findmnt -no SOURCE "$path")")
        begin=$(cat "/sys/class/block/$device/start")
        size=$(cat "/sys/class/block/$device/size")
        blocks=$(stat -f -c '%b' "$path")
        echo "$path on $device: $size sectors from $begin; file system: $blocks blocks of $(stat -f -c %S "$path") bytes"
        [ $((blocks * $(stat -f -c %S "$path") / 512)) -ge $((size * 85 / 100)) ]
        if [ $((begin + size)) -gt $end ]; then end=$((begin + size)); fi
    done
    disk=$(basename "$(dirname "$(readlink -f "/sys/class/block/$device")")")
    total=$(cat "/sys/class/block/$disk/size")
    echo "disk $disk: $total sectors"
    [ $((total - end)) -lt 8192 ]
    ;;
services)
    # shellcheck disable=SC2086 # a list of words
    [ -z "$SERVICES" ] || systemctl is-active $SERVICES
    ;;
ports)
    bad=0
    for port in $PORTS; do
        case $port in
        tcp/*) found=$(ss -Hlnt "sport = :${port#tcp/}") ;;
        udp/*) found=$(ss -Hlnu "sport = :${port#udp/}") ;;
        esac
        if [ -n "$found" ]; then echo "$port: listens"; else echo "$port: nothing listens" && bad=1; fi
    done
    [ "$bad" = 0 ]
    ;;
*)
    exec 3>/dev/virtio-ports/slipway || exit 1
    say running
    systemctl is-system-running --wait >/dev/null 2>&1
    say started
    PACE=${PACE:-$(pace)}
    check system-started 60 sh ./runner.sh started
    check root-grown 30 sh -e ./runner.sh root
    check services-active 60 sh -e ./runner.sh services
    check ports-listening 60 sh -e ./runner.sh ports
    # Before the appliance's own checks: what it takes (KiB) when nobody asks anything of it.
    say memory "$(awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { print total - $2 }' /proc/meminfo)"
    while read -r limit name <&4; do
        case $name in
        *.py) check "$name" "$limit" python3 -u -X faulthandler "checks/$name" ;;
        *) check "$name" "$limit" sh -x "checks/$name" ;; # one that fails has said in which command
        esac
    done 4<list
    say finished
    ;;
esac
