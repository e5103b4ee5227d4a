# Sourced by the scripts that run outside of a tree, in the part's folder: layers laid over each other, and the box in which
# everything of a tree runs. Outside, nothing of a tree is run, and no path in it is followed.

# overlay MOUNTPOINT NEWEST OLDER...: mount layers over each other; changes go to the newest.
overlay() {
    point=$1 upper=$2
    shift 2
    mkdir -p "$point" "$upper" "$upper.work"
    lower=$(printf ':%s' "$@")
    mount -t overlay slipway "$point" \
        -o "lowerdir=${lower#:},upperdir=$upper,workdir=$upper.work${SLIPWAY_OVERLAY:+,$SLIPWAY_OVERLAY}"
}

# box [OPTION...] TREE COMMAND...: run a command of a tree, without a way out of it; ../box.py says what that means.
# --show NAME=FOLDER shows a folder as /dev/slipway/NAME. SLIPWAY_PYTHON is this host's.
box() {
    unshare --mount --pid --fork --kill-child --net --ipc --uts --cgroup -- "$SLIPWAY_PYTHON" -I ../box.py "$@"
}

# script_in TREE SCRIPT [OPTION...]: run a script of this part in a box; it finds this part's files and chroot.sh.
script_in() {
    tree=$1 script=$2
    shift 2
    mkdir -p /mnt/shared
    cp ../chroot.sh /mnt/shared/chroot.sh
    box --show "part=$PWD" --show shared=/mnt/shared "$@" "$tree" sh -eu "/dev/slipway/part/$script"
}

# bootstrap TREE RELEASE PART OPTION...: the least that apt runs in, from /mnt/repositories/PART. What mmdebstrap would run by
# chroot(8), the packages' scripts, runs in a box.
bootstrap() {
    tree=$1 release=$2 repository=/mnt/repositories/$3
    shift 3
    mkdir -p /mnt/bin
    cat >/mnt/bin/chroot <<END
#!/bin/sh
set -eu
: >/mnt/boxed
descriptor=
for word; do
    case \$word in --status-fd=*) descriptor=\${word#*=} ;; esac
done
exec unshare --mount --pid --fork --kill-child --net --ipc --uts --cgroup -- \\
    "\$SLIPWAY_PYTHON" -I "$(dirname "$PWD")/box.py" \${descriptor:+--keep "\$descriptor"} "\$@"
END
    chmod 755 /mnt/bin/chroot
    rm -f /mnt/boxed
    PATH=/mnt/bin:$PATH mmdebstrap --mode=root --variant=apt --format=directory \
        --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt=force-unsafe-io \
        --skip=cleanup/apt,chroot/mount \
        "$@" "$release" "$tree" "deb [trusted=yes] copy:$repository ./"
    if ! [ -e /mnt/boxed ]; then
        echo "error: mmdebstrap ran the packages' scripts without a box" >&2
        exit 1
    fi
    for folder in dev run tmp; do
        if [ -L "$tree/$folder" ]; then
            echo "error: /$folder of the tree is a link" >&2
            exit 1
        fi
    done
    rm -rf "${tree:?}"/dev/*
}

# crowded TREE MOST: no folder of a tree has more entries than this. mke2fs -d looks through a folder from its start for each
# entry that it adds: 10,000 took 5 seconds, 100,000 take 8 minutes, a million would take a day.
crowded() {
    found=$(find "$1" -xdev -mindepth 1 -printf '%h\n' |
        awk -v most="$2" '{ count[$0]++ } END { for (folder in count) if (count[folder] > most) print count[folder], folder }' |
        sort -rn | head -n 1)
    if [ "$found" ]; then
        folder=${found#* }
        echo "error: ${folder#"$1"} has ${found%% *} entries, and a folder of an image at most $2: spread them over folders" >&2
        exit 1
    fi
}
