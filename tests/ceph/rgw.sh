#!/bin/sh
# A Ceph object gateway on this machine's loopback, from Debian's own packages, for tests. Runs as root of a private
# mount and process namespace (slipway.host.namespace), which ends every daemon and mount of it.
#   rgw.sh make TREE MIRROR      make the tree of packages: two minutes, 700 MB, kept in the cache
#   rgw.sh start TREE            start monitor, storage and gateway in /mnt; says "ready" when the gateway answers
# start wants HTTP_PORT, HTTPS_PORT, MONITOR_PORT, and certificate.pem and key.pem in /mnt. Access keys: see below.
set -eu
verb=$1 tree=$2

case $verb in
make)
    # Check-Valid-Until: a mirror may lag behind a testing suite.
    mmdebstrap --mode=root --variant=minbase --format=directory --dpkgopt=force-unsafe-io \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
        --include=radosgw,ceph-mon,ceph-osd,ceph-common,uuid-runtime,curl,procps \
        forky "$tree" "$3"
    rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
    ;;
start)
    # The tree itself is never written to, so that several gateways can run from it.
    mkdir -p /mnt/upper /mnt/work /mnt/root
    mount -t overlay overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
    mount -t proc proc /mnt/root/proc
    mount --rbind /dev /mnt/root/dev
    mkdir -p /mnt/data /mnt/root/srv/rgw
    mount --bind /mnt/data /mnt/root/srv/rgw
    cp "$0" /mnt/root/rgw.sh
    cp /mnt/certificate.pem /mnt/key.pem /mnt/root/srv/rgw
    exec chroot /mnt/root sh /rgw.sh inside /
    ;;
inside)
    data=/srv/rgw
    mkdir -p $data/mon $data/osd0 $data/gateway $data/run $data/log
    cat >$data/ceph.conf <<END
[global]
fsid = $(uuidgen)
mon_host = v2:127.0.0.1:$MONITOR_PORT
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
run_dir = $data/run
admin_socket = $data/run/\$name.asok
pid_file = $data/run/\$name.pid
log_file = $data/log/\$name.log
crash_dir = $data/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
[client.admin]
keyring = $data/keyring
[mon.a]
mon_data = $data/mon
mon_initial_members = a
[osd]
osd_data = $data/osd0
keyring = $data/osd0/keyring
osd_class_dir = /usr/lib/x86_64-linux-gnu/rados-classes
bluestore_block_size = 21474836480
osd_memory_target = 1073741824
[client.rgw]
keyring = $data/gateway/keyring
rgw_frontends = beast endpoint=127.0.0.1:$HTTP_PORT ssl_endpoint=127.0.0.1:$HTTPS_PORT ssl_certificate=$data/certificate.pem ssl_private_key=$data/key.pem
rgw_data = $data/gateway
rgw_dns_name = 127.0.0.1
END
    export CEPH_CONF=$data/ceph.conf
    cd $data
    ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    monmaptool --create --fsid "$(awk '/^fsid/{print $3}' ceph.conf)" --addv a "[v2:127.0.0.1:$MONITOR_PORT]" monmap
    ceph-mon --mkfs -i a --monmap monmap --keyring keyring
    ceph-mon -i a
    uuid=$(uuidgen)
    key=$(ceph-authtool --gen-print-key)
    echo "{\"cephx_secret\": \"$key\"}" | ceph osd new "$uuid" -i -
    ceph-authtool --create-keyring osd0/keyring --name osd.0 --add-key "$key"
    ceph auth get-or-create client.rgw mon 'allow *' osd 'allow *' mgr 'allow *' -o gateway/keyring
    ceph-osd -i 0 --mkfs --osd-uuid "$uuid"
    ceph-osd -i 0
    until ceph osd stat | grep -q '1 up'; do sleep 0.3; done
    radosgw -n client.rgw
    until curl -s -o /dev/null "http://127.0.0.1:$HTTP_PORT/"; do sleep 0.3; done
    radosgw-admin -n client.rgw user create --uid=test --display-name=test --access-key=testaccess --secret-key=testsecret
    radosgw-admin -n client.rgw user create --uid=other --display-name=other --access-key=otheraccess --secret-key=othersecret
    ;;
esac
