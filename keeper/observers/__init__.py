"""What is made of reports and events after the send: metrics, journal, log lines, status."""
