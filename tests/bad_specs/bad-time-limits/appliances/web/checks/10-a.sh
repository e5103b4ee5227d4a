#!/bin/sh
# timeout: soon
