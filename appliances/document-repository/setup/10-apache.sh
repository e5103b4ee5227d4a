#!/bin/sh
# The modules that the site needs, and no other site.
set -eu
a2dissite -q 000-default
a2ensite -q documents
a2disconf -q other-vhosts-access-log
a2enmod -q ssl headers dav dav_svn authz_svn proxy proxy_http rewrite authnz_fcgi >/dev/null
a2dismod -q -f status authnz_fcgi autoindex >/dev/null
rm -rf /var/www/html
