"""What Ollama's HTTP API tells, as metrics."""
