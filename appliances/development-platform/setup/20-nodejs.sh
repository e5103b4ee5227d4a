#!/bin/sh
# As /etc/dpkg/dpkg.cfg.d/nodejs has it from now on. What is left works.
set -eu
rm -rf /usr/share/nodejs/@stdlib /usr/share/nodejs/vega /usr/share/nodejs/vega-lite
# Programs of Debian that are not there either.
find /usr/bin -xtype l -lname "*nodejs*" -delete
broken=$(find /usr/bin /usr/share/jupyter /usr/lib/python3/dist-packages/jupyterlab* -xtype l)
if [ -n "$broken" ]; then
    echo "these need what was removed: $broken" >&2
    exit 1
fi
