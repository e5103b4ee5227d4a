#!/bin/sh
# before: reset
