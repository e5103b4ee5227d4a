#!/bin/sh
# timeout: 60
# The developer is no administrator, the compilers work, and the password is nowhere in clear but where first boot puts it.
set -eu
if id -nG developer | grep -qw sudo; then exit 1; fi
echo 'int main() { return 0; }' >/var/tmp/proof.cc
g++ -o /var/tmp/proof /var/tmp/proof.cc
/var/tmp/proof
password=$(cat /var/lib/slipway/parameters/password)
if grep -F "$password" /etc/nginx/users /home/developer/.jupyter/jupyter_server_config.json; then exit 1; fi
test "$(stat -c '%a %U' /etc/nginx/tls/server.key)" = "600 root"
