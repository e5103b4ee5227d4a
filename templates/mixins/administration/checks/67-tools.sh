#!/bin/sh
# What the README tells to do can be done: files are edited, copied and fetched, and the network is looked at.
set -eu
cd "$(mktemp -d)"
printf 'a\nb\n' >one
vi -es -u NONE -c '%s/a/c/' -c wq one
[ "$(cat one)" = 'c
b' ]
nano --version
rsync --archive one two/
cmp one two/one
curl --fail --silent --show-error "file://$PWD/one" --output three
cmp one three
[ -n "$(tcpdump --list-interfaces)" ]
dig -v
bash -lic 'complete -p -D' # of bash-completion, in the shell of whoever logs in
rm -rf "$PWD"
