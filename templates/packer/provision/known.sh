#!/bin/sh
# known.sh TREE UNIT...: names every unit that the tree has not, and fails if there is one.
# The builder looks for these lines, and shows the place in the author's file.
set -eu
tree=${1%/}
shift

# known UNIT: as src/slipway/builders/_known.py looks for it.
known() {
    case $1 in *.*) unit=$1 ;; *) unit=$1.service ;; esac
    case $unit in *@*) template=${unit%%@*}@.${unit##*.} ;; *) template=$unit ;; esac
    for folder in etc/systemd/system usr/local/lib/systemd/system usr/lib/systemd/system; do
        for file in "$tree/$folder/$unit" "$tree/$folder/$template"; do
            [ ! -e "$file" ] && [ ! -L "$file" ] || return 0
        done
    done
    [ -e "$tree/etc/init.d/${unit%.service}" ]
}

status=0
for name; do
    known "$name" || {
        printf 'slipway: no unit %s\n' "$name" >&2
        status=1
    }
done
exit "$status"
