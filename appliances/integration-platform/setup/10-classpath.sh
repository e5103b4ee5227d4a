#!/bin/sh
# Applications find the JMS client and its ConnectionFactory in Tomcat's common class path.
set -eu
jars=""
for jar in activemq-client activemq-jaas geronimo-jms_1.1_spec geronimo-j2ee-management-1.1-spec hawtbuf slf4j-api slf4j-jdk14; do
    ls "/usr/share/java/$jar.jar" >/dev/null
    jars="$jars,\"/usr/share/java/$jar.jar\""
done
sed -i "/^common.loader=/s|\$|$jars|" /etc/tomcat11/catalina.properties
# Nobody manages virtual hosts over the web, and the distribution's page at / tells strangers its paths.
rm -r /var/lib/tomcat11/webapps/ROOT
rm /etc/tomcat11/Catalina/localhost/host-manager.xml
grep -q '^common.loader=.*activemq-client.jar' /etc/tomcat11/catalina.properties
