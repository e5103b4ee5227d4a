#!/bin/sh
# mirrors.sh TREE: package sources without a mirror get the public ones of the distribution, as the tree's own cloud-init
# names them (package_mirrors in cloud.cfg: "primary" and "security").
set -eu
sources=$1/etc/apt/sources.list.d/debian.sources
for key in primary security; do
    grep -q "^URIs: @$key@\$" "$sources" || continue
    uri=$(sed -n "s|^ *$key: *\\(https\\{0,1\\}://[A-Za-z0-9._/-]*[A-Za-z0-9_-]\\)/* *\$|\\1|p" "$1/etc/cloud/cloud.cfg" | sort -u)
    case $uri in
    "" | *[[:space:]]*)
        echo "error: /etc/cloud/cloud.cfg of this tree does not name one $key mirror: say which with SLIPWAY_IMAGE_MIRROR" >&2
        exit 1
        ;;
    esac
    sed -i "s|^URIs: @$key@\$|URIs: $uri|" "$sources"
done
