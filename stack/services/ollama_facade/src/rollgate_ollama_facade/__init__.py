"""Ollama's HTTP API over an in-process llama.cpp: a stand-in where Ollama itself is not installed."""
