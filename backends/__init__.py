"""Code generators and the machines that run what they generate."""
