"""The simulated AWS, service by service: resource types and rules (see lab/plugins/aws.py)."""
