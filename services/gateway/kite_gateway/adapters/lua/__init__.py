"""The scripts Redis runs for the gateway. Each starts with prelude.lua; the loader in scripts.py puts them together."""
