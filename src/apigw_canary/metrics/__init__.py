"""The sources of metrics: CloudWatch, access logs, and what Lambda publishes."""
