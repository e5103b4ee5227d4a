#!/bin/sh
# timeout: 60
# before: resett
