#!/bin/sh
# The end of a tree, with it as the root, in a box of its own: no identity, no trace, and the first grub.cfg.
set -eu
cd /dev/slipway/part
# shellcheck disable=SC1091 # which is mounted there
. /dev/slipway/shared/chroot.sh
clean_tree /
write_grub_cfg / grub.cfg
