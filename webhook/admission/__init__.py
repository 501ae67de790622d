"""The face towards the API server: AdmissionReviews in, AdmissionReviews out, over TLS."""
