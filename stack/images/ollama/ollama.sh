#!/bin/sh
# Ollama's command, as far as the facade has it.
exec python -m rollgate_ollama_facade.command "$@"
