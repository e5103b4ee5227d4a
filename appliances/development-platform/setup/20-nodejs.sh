#!/bin/sh
# As /etc/dpkg/dpkg.cfg.d/nodejs has it from now on.
set -eu
rm -rf /usr/share/nodejs /usr/lib/x86_64-linux-gnu/nodejs /usr/lib/nodejs
broken=$(find /usr/share/jupyter /usr/lib/python3/dist-packages/jupyterlab* -xtype l)
if [ -n "$broken" ]; then
    echo "JupyterLab needs what was removed: $broken" >&2
    exit 1
fi
