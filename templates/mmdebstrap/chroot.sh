# Sourced by the scripts that run in a tree, with the tree as their root: a box of the build, or a machine of Packer's.
# TREE is / there.

# Where the repositories of locked packages are, by part.
repositories=${SLIPWAY_REPOSITORIES:-/mnt/repositories}

# no_services: what is installed starts nothing (Debian's policy-rc.d interface: 101 is "action not allowed").
no_services() {
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
}

tree_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# in_tree TREE COMMAND...: run a program in an open tree, with the environment that makes its results repeatable.
in_tree() {
    tree=$1
    shift
    env -i PATH="$tree_path" HOME=/root LC_ALL=C.UTF-8 TZ=UTC0 \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" INITRD="${INITRD:-Yes}" DEBIAN_FRONTEND=noninteractive \
        DEBCONF_NONINTERACTIVE_SEEN=true PYTHONHASHSEED=0 \
        chroot "$tree" "$@"
}

# make_initramfs TREE: by the distribution's own tool, once for each kernel.
make_initramfs() {
    for kernel in "$1"/boot/vmlinuz-*; do
        version=${kernel##*/vmlinuz-}
        rm -f "$1/boot/initrd.img-$version"
        INITRD=Yes in_tree "$1" update-initramfs -c -k "$version"
    done
}

# install_packages TREE PART PACKAGE...: from the part's repository, by the tree's own apt, which knows of nothing else.
# What is left running is waited for by finish_packages.
install_packages() {
    tree=$1 work=$1/run/slipway
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/bin"
    echo "deb [trusted=yes] file:$repositories/$2 ./" >"$work/sources.list"
    shift 2
    cat >"$work/apt.conf" <<'END'
Dir::Etc::SourceList "/run/slipway/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "/run/slipway/lists";
Dir::Cache "/run/slipway/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Dpkg::Use-Pty "false";
DPkg::Path "/run/slipway/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
Dpkg::Options { "--force-confold"; "--force-unsafe-io"; };
END
    # Maintainer scripts wait for these, and nothing that is installed needs what they make: a second process does it
    # meanwhile, in the order in which it is asked for. (apt gives dpkg a PATH of its own, DPkg::Path above.)
    mkfifo "$work/later"
    cat >"$work/bin/py3compile" <<'END'
#!/bin/sh
request=${0##*/}
for word; do
    request="$request '$(printf %s "$word" | sed "s/'/'\\\\''/g")'"
done
echo "$request" >/run/slipway/later
END
    ln -s py3compile "$work/bin/update-ca-certificates"
    # Host keys are made on first boot: none is made here.
    cat >"$work/bin/ssh-keygen" <<'END'
#!/bin/sh
case "$*" in *" /etc/ssh/ssh_host_"*) exit ;; esac
exec /usr/bin/ssh-keygen "$@"
END
    chmod 755 "$work/bin"/*
    exec 3<>"$work/later"
    while read -r request <&3 && [ "$request" ]; do
        echo "meanwhile: $request"
        eval "in_tree \"\$tree\" $request"
    done &
    later=$!
    for step in update "install $*"; do
        # shellcheck disable=SC2086 # words of apt-get, and names of packages
        in_tree "$tree" env APT_CONFIG=/run/slipway/apt.conf apt-get -q -y $step
    done
}

# finish_packages TREE FILE: what install_packages left running has ended well, and what is installed is what was locked,
# nothing more and nothing else.
finish_packages() {
    echo >&3
    wait "$later"
    exec 3>&-
    # shellcheck disable=SC2016 # the ${...} are dpkg-query's
    in_tree "$1" dpkg-query -W -f '${Package} ${Version} ${Architecture} ${db:Status-Status}\n' | LC_ALL=C sort >/run/slipway/installed
    LC_ALL=C sort "$2" >/run/slipway/expected
    if ! diff /run/slipway/expected /run/slipway/installed; then
        echo "error: the installed packages (>) differ from the locked ones (<)" >&2
        exit 1
    fi
}

# drop_documentation TREE: what dpkg would have left out of the packages that were there before it. Licences stay, and so do
# links of a package's folder to another one's, which has the licence of both.
drop_documentation() {
    find "$1/usr/share/doc" -mindepth 2 ! -type d ! -name copyright -delete
    rm -rf "$1"/usr/share/info/* "$1"/usr/share/lintian/*
}

# no_host_keys TREE: no package's installation made a key that all instances would share.
no_host_keys() {
    for key in "$1"/etc/ssh/ssh_host_*; do
        [ ! -e "$key" ] || {
            echo "error: the packages' installation made a host key: $key" >&2
            exit 1
        }
    done
}

# lay_over TREE: the files of the working directory's files/ over it. Directories and directory links that exist keep their
# owner, mode and target.
lay_over() {
    tar -C files --owner=0 --group=0 --numeric-owner -c . | tar -C "$1" -x --no-overwrite-dir --keep-directory-symlink
}

# add_users TREE FILE: the users and groups of a sysusers.d file. Whatever day it is, their passwords were locked on the lock's.
add_users() {
    in_tree "$1" systemd-sysusers "$2"
    day=$((SOURCE_DATE_EPOCH / 86400))
    while read -r kind name _; do
        [ "$kind" != u ] || sed -i "s/^\($name:[^:]*\):[0-9]*:/\1:$day:/" "$1/etc/shadow"
    done <"$1$2"
}

# refuse_locales TREE: logins have the machine's locale. Their client's may not be here, and then every program complains.
refuse_locales() {
    config=$1/etc/ssh/sshd_config
    [ ! -f "$config" ] || sed -E -i -e '/^AcceptEnv /{s/ LANG( |$)/\1/;s/ LC_[^ ]*//g;s/^AcceptEnv *$/# AcceptEnv of no locale/}' "$config"
}

# check_timezone TREE ZONE: the tree has it.
check_timezone() {
    if ! [ -f "$1/usr/share/zoneinfo/$2" ]; then
        echo "error: there is no time zone \"$2\" in the image (timezone in the spec); zones are in the package tzdata" >&2
        exit 1
    fi
}

# make_locale TREE NAME: the tree has this locale, from its definition.
make_locale() {
    language=${2%%.*} modifier=${2#*UTF-8}
    if ! [ -f "$1/usr/share/i18n/locales/$language$modifier" ]; then
        echo "error: there is no locale \"$2\" in the image (locale in the spec); definitions are in the package locales, with keep: [locales]" >&2
        exit 1
    fi
    in_tree "$1" localedef --no-archive -i "$language$modifier" -f UTF-8 "$2"
}

# set_keyboard TREE LAYOUT: see that the tree has it, and make the key map that each boot loads.
set_keyboard() {
    if ! [ -f "$1/usr/share/X11/xkb/symbols/${2%%(*}" ] || ! [ -x "$1/usr/bin/setupcon" ]; then
        echo "error: there is no keyboard layout \"$2\" in the image (keyboard in the spec); layouts are in the package console-setup" >&2
        exit 1
    fi
    case $2 in
    *\(*)
        variant=${2#*\(}
        if ! grep -q "^ *xkb_symbols *\"${variant%)}\"" "$1/usr/share/X11/xkb/symbols/${2%%(*}"; then
            echo "error: the keyboard layout ${2%%(*} has no variant \"${variant%)}\" (keyboard in the spec)" >&2
            exit 1
        fi
        ;;
    esac
    # What is there already is made again only if its settings have a later time, which files of an image have not.
    rm -f "$1"/etc/console-setup/cached_*
    in_tree "$1" setupcon --save-only
}

# check_timers TREE NAME...: each comes at some time, and what it starts is there.
check_timers() {
    tree=$1
    shift
    for name; do
        calendar=$(sed -n 's/^OnCalendar=//p' "$tree/etc/systemd/system/$name.timer")
        if ! in_tree "$tree" systemd-analyze calendar "$calendar" >"$tree/run/slipway/calendar" 2>&1; then
            echo "error: \"$calendar\" is no time that the timer $name can come at (timers in the spec; see systemd.time(7))" >&2
            exit 1
        fi
        command=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$tree/etc/systemd/system/$name.service")
        if ! in_tree "$tree" test -x "$command"; then
            echo "error: there is no program $command in the image (timers in the spec: $name)" >&2
            exit 1
        fi
        user=$(sed -n 's/^User=//p' "$tree/etc/systemd/system/$name.service")
        if ! in_tree "$tree" id "$user" >/dev/null 2>&1; then
            echo "error: there is no user $user in the image (timers in the spec: $name)" >&2
            exit 1
        fi
    done
}

# confined TREE SERVICE=EXPOSURE...: no service is more exposed than it may be; what each is, and why, is in the log.
confined() {
    tree=$1 bad=
    shift
    for service; do
        in_tree "$tree" systemd-analyze security --no-pager --offline=yes --threshold="${service#*=}" "${service%=*}" \
            >"$tree/run/slipway/exposure" 2>&1 || bad="$bad $service"
        grep -e '✗' -e 'Overall' "$tree/run/slipway/exposure" || cat "$tree/run/slipway/exposure"
    done
    if [ "$bad" ]; then
        echo "error: more exposed than the spec allows (see services: {exposure, exposed}):$bad" >&2
        exit 1
    fi
}

# forget_identities TREE: names and keys that packages or setup scripts made for one instance are removed, and noted for
# first boot, which makes them again.
forget_identities() {
    in_tree "$1" /usr/bin/python3 -E -s -B /usr/lib/slipway/identities.py --forget
}

# clean_tree TREE: no identity, no secret, no trace of the building (what is left is found by the hygiene check and fails
# the build).
clean_tree() (
    cd "$1" || exit
    : >etc/machine-id
    chmod 444 etc/machine-id
    rm -f var/lib/dbus/machine-id etc/ssh/ssh_host_* var/lib/systemd/random-seed root/.bash_history
    rm -rf var/cache/apt/* var/lib/apt/lists/* var/cache/debconf/*-old var/lib/dpkg/*-old var/cache/ldconfig/aux-cache
    rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock
    rm -rf tmp/* var/tmp/* run/*
    find var/log -type f -delete
)

# write_grub_cfg TREE TEMPLATE: the first grub.cfg, with the settings that update-grub will use in the appliance when a
# kernel is added.
write_grub_cfg() (
    GRUB_CMDLINE_LINUX='' GRUB_CMDLINE_LINUX_DEFAULT='' GRUB_TIMEOUT=1
    for settings in "$1/etc/default/grub" "$1"/etc/default/grub.d/*.cfg; do
        # shellcheck disable=SC1090 # the tree's own
        [ ! -e "$settings" ] || . "$settings"
    done
    # Of several kernels the newest, as update-grub would.
    version=$(printf '%s\n' "$1"/boot/vmlinuz-* | sed 's/.*\/vmlinuz-//' | sort -V | sed -n '$p')
    # The shell puts the texts in, for which no character means anything; sed's s would read & and | as more.
    while IFS= read -r line || [ "$line" ]; do
        for value in "@VERSION@$version" "@TIMEOUT@$GRUB_TIMEOUT" "@CMDLINE@$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"; do
            name=@${value#@} text=${value#@*@}
            name=${name%"$text"} done='' rest=$line
            while [ "${rest#*"$name"}" != "$rest" ]; do
                done=$done${rest%%"$name"*}$text rest=${rest#*"$name"}
            done
            line=$done$rest
        done
        printf '%s\n' "$line"
    done <"$2" >"$1/boot/grub/grub.cfg"
)
