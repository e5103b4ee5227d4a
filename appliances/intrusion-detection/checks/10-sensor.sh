#!/bin/sh
# timeout: 180
set -eu
runuser -u sensor -- suricata -T -c /etc/suricata/suricata.yaml
test -s /var/log/suricata/eve.json || test -e /var/log/suricata/eve.json
test "$(ps -o user= -C Suricata-Main | sort -u)" = sensor

# Networks that Suricata does not take are refused, and nothing is written.
before=$(cksum /etc/suricata/sensor.yaml /etc/intrusion-detection/*)
for networks in 999.1.1.1 10.0.0.0/33 abc "," 0.0.0.0/0; do
    if said=$(PARAM_HOME_NETWORKS=$networks sh /usr/lib/slipway/firstboot.d/10-sensor.sh 2>&1); then
        echo "home_networks=$networks was taken"
        exit 1
    fi
    case "$said" in home_networks*) ;; *)
        printf 'home_networks=%s: %s\n' "$networks" "$said"
        exit 1
        ;;
    esac
done
test "$(cksum /etc/suricata/sensor.yaml /etc/intrusion-detection/*)" = "$before"
