"""The cluster's policies → the policies in force, and what is said about them.

Every replica follows the API server by itself and answers by itself. One of them, the leader, also writes: status, the serving
certificate, and the webhook configuration.
"""
