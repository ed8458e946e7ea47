"""What :mod:`common.servers.cassandra` is made of. Nobody else imports this package, nor cassandra-driver."""
