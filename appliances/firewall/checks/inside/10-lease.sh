#!/bin/sh
# timeout: 90
# A client inside is given a lease: an address of the inside network, the firewall as its router and name server.
# The next checks use the address that this leaves on the interface.
set -eu
script=$(mktemp)
trap 'rm -f "$script" "$script.lease"' EXIT
# udhcpc's script interface: the event as argument, the lease in the environment.
cat >"$script" <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
printf '%s %s %s %s\n' "$ip" "$mask" "$router" "$dns" >"$0.lease"
END
chmod 700 "$script"
ip link set "$SLIPWAY_INTERFACE" up
busybox udhcpc -f -n -q -t 10 -T 2 -i "$SLIPWAY_INTERFACE" -s "$script"
read -r address length router dns <"$script.lease"
echo "lease: $address/$length, router $router, name server $dns"
firewall=${SLIPWAY_PARAMETER_INSIDE_ADDRESS%/*}
test "$router" = "$firewall"
test "$dns" = "$firewall"
ip address replace "$address/$length" dev "$SLIPWAY_INTERFACE"
ip route replace default via "$router" dev "$SLIPWAY_INTERFACE"
