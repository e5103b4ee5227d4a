#!/bin/sh
# with: second
