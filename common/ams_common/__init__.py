"""What server and edge must agree on."""
