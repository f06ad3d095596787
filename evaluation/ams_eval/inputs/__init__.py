"""What is evaluated: recordings, with labels where there are any."""
