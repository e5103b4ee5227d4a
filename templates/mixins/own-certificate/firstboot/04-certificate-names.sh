#!/bin/sh
# Refused before anything is made.
set -eu
/usr/lib/slipway/certificate --check
/usr/lib/slipway/acme --check
