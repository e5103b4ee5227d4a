#!/bin/sh
# timeout: 60
# Java 21 runs both services, as users of their own; their secrets are theirs alone, and Tomcat keeps no password.
set -eu
test "$(stat -c '%a %U:%G' /etc/tomcat11/tomcat-users.xml)" = "640 root:tomcat"
test "$(stat -c '%a %U:%G' /etc/activemq/users.properties)" = "640 root:activemq"
test "$(stat -c '%a %U' /etc/activemq/server.p12)" = "600 activemq"
if grep -F "$(cat /var/lib/slipway/parameters/password)" /etc/tomcat11/tomcat-users.xml; then exit 1; fi
for unit in tomcat11:tomcat broker:activemq; do
    pid=$(systemctl show -p MainPID --value "${unit%:*}")
    test "$(stat -c %U "/proc/$pid")" = "${unit#*:}"
    readlink "/proc/$pid/exe" | grep -q java-21
done
