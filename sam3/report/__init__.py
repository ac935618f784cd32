"""Reports as one HTML file: no request leaves it, it opens from ``file://``, it is readable on a phone."""
