# timeout: 0
