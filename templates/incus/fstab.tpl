# A container has no disks of its own.
