#!/bin/sh
# qemu_tree.sh PACKAGES TREE LIBRARIES PROGRAM LINKER   makes a QEMU's tree, in a namespace.
#
# Unpacks the packages of a folder and keeps what the program needs. LIBRARIES is the name of their folder. Then sees that
# nothing which the program or one of its modules loads is missing, or would be the host's. Prints the size in MiB.
set -eu
packages=$1 tree=$2 libraries=usr/lib/$3 program=usr/bin/$4 linker=$5
mkdir -p "$tree.all" "$tree/usr/bin" "$tree/usr/lib" "$tree/usr/share"
for package in "$packages"/*.deb; do
    dpkg-deb --extract "$package" "$tree.all"
    rm "$package"
done
for path in "$program" "$libraries" usr/share/qemu usr/share/seabios; do
    [ ! -e "$tree.all/$path" ] || mv "$tree.all/$path" "$tree/$path"
done
rm -rf "$tree.all"
for file in "$tree/$program" "$tree/$libraries"/qemu/*.so; do
    "$tree/$libraries/$linker" --inhibit-cache --library-path "$tree/$libraries" --list "$file" >"$tree.loads"
    # What is left names a library that is not found, or is found elsewhere.
    if grep -v -e linux-vdso -e 'statically linked' -e "^[[:space:]]*$tree/" -e " => $tree/" "$tree.loads" >&2; then
        echo "error: $file does not load these from its own tree" >&2
        exit 1
    fi
done
du -sm "$tree" | cut -f 1
