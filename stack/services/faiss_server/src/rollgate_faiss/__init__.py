"""A FAISS index behind HTTP, with checked snapshots and a keyword search beside it."""
