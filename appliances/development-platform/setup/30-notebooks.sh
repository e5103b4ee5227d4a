#!/bin/sh
# Notebooks run in an environment of the developer's own, so that `%pip install` works. It has Debian's packages too.
set -eu
home=/home/developer
kernel=$home/.local/share/jupyter/kernels/python3
python3 -m venv --without-pip --system-site-packages "$home/venv"
mkdir -p "$kernel"
cat >"$kernel/kernel.json" <<END
{
 "argv": ["$home/venv/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
 "display_name": "Python 3 (venv)",
 "language": "python"
}
END
chown -R developer:developer "$home/venv" "$home/.local"
