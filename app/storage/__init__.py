"""Uploads and archived outputs, on a disk or in an object store."""
