"""What a configuration costs on the machine at hand: operations, seconds, bytes. `eventide bench` prints it."""
