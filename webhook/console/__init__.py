"""The face towards the kubelet and Prometheus, on a port of its own: it must answer when reviews are refused."""
