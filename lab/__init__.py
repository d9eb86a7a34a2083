"""The local lab: a real Kubernetes cluster in network namespaces of its own, with an "internet" around it."""
