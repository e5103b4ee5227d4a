#!/usr/bin/env python3
# with: second secnd
