"""Bytes to pixels and back: fetch, header, decode, shrink, encode."""
