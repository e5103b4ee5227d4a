# timeout: 86400
